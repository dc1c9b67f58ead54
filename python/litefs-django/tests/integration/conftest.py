"""The project of tests/project on nodes of a real cluster, each in processes of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from litefs_py.adapters.upload import import_file
from litefs_py.cluster import wait_for

PROJECT = Path(__file__).parents[1] / "project"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Site:
    """The project, with a database of its own on the cluster."""

    def __init__(self, cluster, database, folder):
        self.cluster, self.database, self.folder = cluster, database, folder

    def environment(self, node, **settings):
        given = (
            {"MOUNT": str(node.mount.path), "API": node.socket, **settings} if node else settings
        )
        return {
            **os.environ,
            "PROJECT_DIR": str(self.folder),
            "PROJECT_DATABASE": self.database,
            "PROJECT_LITEFS": json.dumps(given),
            "DJANGO_SETTINGS_MODULE": "settings",
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])
            ),
        }

    def start(self, node, *arguments, **settings):
        """manage.py, at work."""
        return subprocess.Popen(
            [sys.executable, PROJECT / "manage.py", *arguments],
            env=self.environment(node, **settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def manage(self, node, *arguments, check=True, **settings):
        """manage.py; its output."""
        process = self.start(node, *arguments, **settings)
        out, err = process.communicate(timeout=120)
        assert not (check and process.returncode), out + err
        return out if check else (process.returncode, out + err)

    @contextmanager
    def served(self, node, *command, port=None, **settings):
        """A server at this node: its URL."""
        port = port or free_port()
        command = command or (
            "gunicorn",
            "--workers",
            "1",
            "--threads",
            "4",
            "--bind",
            "{}",
            "wsgi",
        )
        command = [part.format(f"127.0.0.1:{port}") for part in command]
        log = self.folder / f"server-{port}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=self.environment(node, **settings),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for(lambda: self.answers(url, process, log), 90, f"a server: {log.read_text()}")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)

    @staticmethod
    def answers(url, process, log):
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"{url}/health/liveness", timeout=5).status_code in (200, 503)
        except httpx.TransportError:
            return False


@pytest.fixture
def site(litefs_cluster, litefs_database, tmp_path):
    return Site(litefs_cluster, litefs_database, tmp_path)


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """A plain file with the project's tables, made once."""
    site = Site(None, "app.db", tmp_path_factory.mktemp("plain"))
    site.manage(None, "migrate", "--verbosity", "0", ENABLED=False)
    site.manage(None, "createcachetable", "--verbosity", "0", ENABLED=False)
    return site.folder / ".litefs" / "app.db"


@pytest.fixture
def migrated(site, tables):
    """With its tables."""
    return with_tables(site, tables)


@pytest.fixture
def one_writer(litefs_primary_cluster, litefs_database, tmp_path, tables):
    """The same where only the primary writes."""
    return with_tables(Site(litefs_primary_cluster, litefs_database, tmp_path), tables)


def with_tables(site, tables):
    import_file(site.cluster.leader().client, tables, site.database)
    for node in site.cluster.nodes:
        node.client.barrier(10)
    return site
