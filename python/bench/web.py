#!/usr/bin/env python3
"""Figures of web applications: a view with one write and five reads, on the mount, plain SQLite and PostgreSQL.

    uv run bench/web.py views [--seconds S] [--rounds N]     requests a second, by Django and by FastAPI
    uv run bench/web.py failover [--no-retries]              failed requests through nginx: SIGKILL, switchover
    uv run bench/web.py imports                              import times

Needs FUSE, the litefs-py program ($LITEFS_PY); PostgreSQL and nginx from Debian where they take part. The views are
called in this process, without a server, one after the other: what is measured is the database. The rounds take turns,
and what is printed is the median; figures do not travel, ratios do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import glob
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROWS = 1000


# One measurement, in a process of its own


def django_view(database: dict, litefs: dict):
    import django
    from django.conf import settings

    settings.configure(
        DATABASES={"default": database},
        LITEFS=litefs,
        SECRET_KEY="x",
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=["litefs_django.middleware.LitefsMiddleware"],
        INSTALLED_APPS=["litefs_django"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()
    from django.core.handlers.wsgi import WSGIHandler
    from django.db import connection, models
    from django.http import HttpResponse
    from django.urls import path

    class Row(models.Model):
        n = models.IntegerField()

        class Meta:
            app_label = "bench"

    with connection.schema_editor() as editor:
        editor.create_model(Row)
    Row.objects.bulk_create(Row(n=n) for n in range(ROWS))

    def view(request):
        Row.objects.create(n=1)
        for number in range(1, 6):
            Row.objects.get(pk=number * 7)
        return HttpResponse("x")

    global urlpatterns
    urlpatterns = [path("", view)]
    application = WSGIHandler()
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_NAME": "x", "SERVER_PORT": "80"}

    def one() -> None:
        import io

        environ["wsgi.input"] = io.BytesIO()
        codes = []
        body = application({**environ, "wsgi.url_scheme": "http"}, lambda s, h: codes.append(s))
        b"".join(body)
        body.close()
        assert codes[0].startswith("200"), codes

    return one


def fastapi_view(engine_of, litefs):
    from fastapi import FastAPI
    from litefs_fastapi import LitefsMiddleware
    from sqlalchemy import text

    engine = engine_of()
    serial = "SERIAL" if engine.dialect.name == "postgresql" else "INTEGER"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE bench(id {serial} PRIMARY KEY, n INTEGER)"))
        connection.execute(
            text("INSERT INTO bench(n) VALUES (:n)"), [{"n": n} for n in range(ROWS)]
        )
    app = FastAPI()
    if litefs is not None:
        app.add_middleware(LitefsMiddleware, litefs=litefs)

    @app.post("/")
    async def view():
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO bench(n) VALUES (1)"))
        with engine.connect().execution_options(litefs_begin="DEFERRED") as connection:
            for number in range(1, 6):
                connection.execute(
                    text("SELECT n FROM bench WHERE id = :i"), {"i": number * 7}
                ).all()
        return {}

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    loop = asyncio.new_event_loop()

    async def request() -> None:
        codes = []

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            codes.append(message.get("status"))

        await app(dict(scope), receive, send)
        assert codes[0] == 200, codes

    return lambda: loop.run_until_complete(request())


def measure(seconds: float, one) -> float:
    for _ in range(20):
        one()
    end, done, began = time.perf_counter() + seconds, 0, time.perf_counter()
    while time.perf_counter() < end:
        one()
        done += 1
    return done / (time.perf_counter() - began)


def child(told: dict) -> None:
    name = f"bench{uuid.uuid4().hex[:8]}"
    if told["framework"] == "django":
        engine = "litefs_django.db.backends.litefs"
        database = {"ENGINE": engine, "NAME": f"{name}.db"}
        if told["kind"] == "plain":
            litefs = {
                "ENABLED": False,
                "FOLDER": told["folder"],
                "SYNCHRONOUS": told["synchronous"],
            }
        elif told["kind"] == "mount":
            litefs = {"MOUNT": told["mount"], "API": told["api"]}
        else:
            litefs = {"ENABLED": False, "FOLDER": told["folder"]}
            database = {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "postgres",
                "CONN_MAX_AGE": None,
            }
            database |= {"HOST": told["socket"], "USER": "bench"}
        database.setdefault("CONN_MAX_AGE", None)
        one = django_view(database, litefs)
    else:
        from litefs_fastapi import Litefs

        if told["kind"] == "postgres":
            from sqlalchemy import create_engine

            url = f"postgresql+psycopg://bench@/postgres?host={told['socket']}"
            one = fastapi_view(lambda: create_engine(url), None)
        else:
            if told["kind"] == "plain":
                litefs = Litefs(
                    enabled=False, folder=told["folder"], synchronous=told["synchronous"]
                )
            else:
                litefs = Litefs(mount=told["mount"], api=told["api"], secret="x")
            one = fastapi_view(lambda: litefs.create_engine(f"{name}.db"), litefs)
    print(json.dumps(measure(told["seconds"], one)))


# All of them


class Postgres:
    """A server of its own, with the defaults of Debian's."""

    QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    AS_USER = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")

    def __init__(self, programs: str, folder: Path, name: str, source: Postgres | None = None):
        """A standby of `source`, where that is given."""
        self.programs, self.folder = programs, folder / name
        self.data = self.folder / "data"
        for made in (self.folder, self.data):
            made.mkdir(mode=0o700)
            subprocess.run(["chown", "postgres", made], check=True)
        if source is None:
            self._run("initdb", "-U", "bench", "-A", "trust")
        else:
            whence = f"host={source.folder} user=bench application_name={name}"
            self._run("pg_basebackup", "-R", "-c", "fast", "-d", whence)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self.AS_USER, f"{self.programs}/{program}", "-D", str(self.data), *arguments]
        subprocess.run(command, check=True, **self.QUIET)

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses="
        self._run("pg_ctl", "-w", "-o", options, "-l", f"{self.folder}/log", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "fast", "stop")

    def sql(self, statement: str) -> str:
        command = [
            "psql",
            "-qAt",
            "-h",
            self.folder,
            "-U",
            "bench",
            "-d",
            "postgres",
            "-c",
            statement,
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()


@contextlib.contextmanager
def postgres(folder: Path):
    """The folders of two servers' sockets by what they are: one alone, and one with two standbys of which one has
    each commit before it is answered, as one of two other nodes has here. Empty where none is installed."""
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    servers: list[Postgres] = []

    def started(name: str, source: Postgres | None = None) -> Postgres:
        server = Postgres(programs[-1], folder, name, source)
        server.start()
        servers.append(server)
        return server

    try:
        if programs:
            folder.chmod(0o755)
            alone, replicated = started("alone"), started("replicated")
            for name in ("standby1", "standby2"):
                started(name, replicated)
            replicated.sql("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'")
            replicated.sql("SELECT pg_reload_conf()")
            asked = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'"
            end = time.monotonic() + 30
            while replicated.sql(asked) != "2":
                if time.monotonic() > end:
                    raise TimeoutError("the standbys of PostgreSQL do not follow")
                time.sleep(0.1)
            yield {"PostgreSQL": alone, "PostgreSQL, two standbys": replicated}
        else:
            yield {}
    finally:
        for server in reversed(servers):
            server.stop()


def views(seconds: float, rounds: int) -> None:
    from litefs_py.cluster import Cluster

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cluster = stack.enter_context(Cluster(folder / "cluster"))
        servers = stack.enter_context(postgres(folder))
        leader, follower = cluster.leader(), cluster.followers()[0]
        plain = {"kind": "plain", "folder": str(folder)}
        kinds = {
            "plain SQLite, NORMAL": {**plain, "synchronous": "NORMAL"},
            "plain SQLite, FULL": {**plain, "synchronous": "FULL"},
            "mount, leader": {
                "kind": "mount",
                "mount": str(leader.mount.path),
                "api": leader.socket,
            },
            "mount, follower": {
                "kind": "mount",
                "mount": str(follower.mount.path),
                "api": follower.socket,
            },
        }
        for kind, server in servers.items():
            kinds[kind] = {"kind": "postgres", "socket": str(server.folder), "folder": str(folder)}
        for framework in ("django", "fastapi"):
            found: dict[str, list[float]] = {kind: [] for kind in kinds}
            for _ in range(rounds):
                for kind, told in kinds.items():
                    if kind in servers:
                        servers[kind].sql("DROP TABLE IF EXISTS bench, bench_row")
                    told = {**told, "framework": framework, "seconds": seconds}
                    said = subprocess.run(
                        [sys.executable, __file__, "child", json.dumps(told)],
                        check=True,
                        stdout=subprocess.PIPE,
                    )
                    found[kind].append(json.loads(said.stdout))
            base = statistics.median(found["plain SQLite, FULL"])
            print(f"{framework}: a view with one write and five reads, requests a second")
            for kind, values in found.items():
                median = statistics.median(values)
                print(
                    f"  {kind:<24} {median:8.0f}  {median / base:5.2f} of plain, FULL", flush=True
                )


def failover(retries: bool, rounds: int) -> None:
    sys.path.insert(0, str(HERE.parent / "examples/fastapi"))
    import httpx
    import run as example

    for what in ("SIGKILL of a node", "switchover"):
        with tempfile.TemporaryDirectory() as folder, example.site(folder, retries=retries) as site:
            codes: list[int] = []
            over = threading.Event()

            def load() -> None:
                with httpx.Client(base_url=site.url, timeout=60) as client:
                    while not over.is_set():
                        answer = client.put(f"/notes/{uuid.uuid4()}", params={"text": "x"})
                        codes.append(answer.status_code)

            threads = [threading.Thread(target=load) for _ in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(rounds):
                time.sleep(1)
                if what == "switchover":
                    site.cluster.leader().client.switchover()
                else:
                    victim = site.cluster.leader()
                    site.kill(victim)
                    time.sleep(1)
                    site.restart(victim)
            time.sleep(1)
            over.set()
            for thread in threads:
                thread.join()
            failed = sum(code != 200 for code in codes)
            print(f"{what}, {rounds} times: {failed} of {len(codes)} requests failed", flush=True)


def imports() -> None:
    for module in (
        "litefs_py",
        "litefs_py.adapters.connection",
        "litefs_django.conf",
        "litefs_fastapi",
    ):
        code = (
            f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
        )
        runs = [
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
            for _ in range(5)
        ]
        print(f"import {module}: {statistics.median(float(r.stdout) for r in runs) * 1000:.0f} ms")


if __name__ == "__main__":
    # What was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    if sys.argv[1:2] == ["child"]:
        child(json.loads(sys.argv[2]))
        sys.exit()
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["views", "failover", "imports"])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-retries", action="store_true")
    options = parser.parse_args()
    if options.what == "views":
        views(options.seconds, options.rounds)
    elif options.what == "failover":
        failover(not options.no_retries, options.rounds)
    else:
        imports()
