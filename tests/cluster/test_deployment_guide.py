"""docs/deployment.md, word by word, on three machines: network namespaces with folders of their own."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from cluster_fixtures import PROGRAM
from devcluster import ROOT, die_with_parent, run, wait_for

# What a machine has for itself; the guide's paths are the program's defaults.
OWN = ["/etc/litefs-py", "/var/lib/litefs-py", "/run/litefs-py", "/litefs"]
GUIDE = ROOT / "docs" / "deployment.md"
BLOCK = re.compile(r"<!-- (on|start|token|join) (n\d) -->\n```sh\n(.*?)```", re.DOTALL)


class Place:
    """A machine: a network and a mount namespace, held by a process that sleeps."""

    def __init__(self, number, folder):
        self.name, self.folder = f"n{number}", folder / f"n{number}"
        self.net = f"lfsguide{os.getpid() % 10000}-{number}"
        self.address = f"10.0.0.{number}"
        self.node = None
        for own in OWN:
            (self.folder / own.lstrip("/")).mkdir(parents=True)
        run("ip", "netns", "add", self.net)
        binds = "".join(f"mount --bind {self.folder}{own} {own} && " for own in OWN)
        own_bin = self.folder / "bin"
        own_bin.mkdir()
        (own_bin / "litefs-py").symlink_to(PROGRAM.resolve())
        programs = f"mount --bind {own_bin} /usr/local/sbin && "
        self.holder = subprocess.Popen(
            [
                "ip", "netns", "exec", self.net, "unshare", "--mount", "--propagation", "private",
                "sh", "-c", f"{binds}{programs}echo ready && exec sleep 600",
            ],
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )  # fmt: skip
        assert self.holder.stdout.readline() == b"ready\n"

    def command(self, *command):
        return ["nsenter", "-t", str(self.holder.pid), "-m", "-n", *command]

    def sh(self, text, deadline=60):
        return run(*self.command("sh", "-ec", text), deadline=deadline)

    def start(self, text):
        with open(self.folder / "log", "a") as log:
            self.node = subprocess.Popen(
                self.command("sh", "-ec", f"exec {text.strip()}"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        wait_for(self.is_ready, 60, f"{self.name}: {(self.folder / 'log').read_text()[-2000:]}")

    def is_ready(self):
        assert self.node.poll() is None, (self.folder / "log").read_text()[-2000:]
        asked = self.command(
            "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "127.0.0.1:8008/readiness"
        )
        return run(*asked, check=False).stdout == "200"

    def clear(self):
        if self.node is not None and self.node.poll() is None:
            self.node.terminate()
            self.node.wait(60)
        self.holder.kill()
        self.holder.wait(30)
        run("ip", "netns", "del", self.net, check=False)
        # The node has made its bare mount point immutable.
        run("chattr", "-i", self.folder / "litefs", check=False)


@pytest.fixture
def places(tmp_path):
    if os.geteuid() != 0 or not shutil.which("curl"):
        pytest.skip("needs root and curl")
    if Path("/litefs").exists():
        pytest.skip("/litefs is there: this machine has a litefs-py of its own")
    bridge = f"lfsg{os.getpid() % 10000}"
    made = []
    # Mount points for what each machine has for itself; gone again at the end.
    missing = [Path(own) for own in OWN if not Path(own).exists()]
    try:
        for own in missing:
            own.mkdir()
        run("ip", "link", "add", bridge, "type", "bridge")
        run("ip", "link", "set", bridge, "up")
        for number in (1, 2, 3):
            place = Place(number, tmp_path)
            made.append(place)
            outer = f"{bridge}v{number}"
            inside = ["ip", "-n", place.net]
            run(
                "ip",
                "link",
                "add",
                outer,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                place.net,
            )
            run("ip", "link", "set", outer, "master", bridge, "up")
            run(*inside, "addr", "add", f"{place.address}/24", "dev", "eth0")
            run(*inside, "link", "set", "eth0", "up")
            run(*inside, "link", "set", "lo", "up")
        yield {place.name: place for place in made}
    finally:
        for place in made:
            place.clear()
        run("ip", "link", "del", bridge, check=False)
        for own in missing:
            # The node looks beneath all mounts for the bare mount point that it makes immutable.
            run("chattr", "-i", own, check=False)
            own.rmdir()


def test_the_guide_leads_from_nothing_to_three_nodes_and_a_rolling_restart(places):
    blocks = BLOCK.findall(GUIDE.read_text())
    kinds = [(kind, name) for kind, name, _ in blocks]
    assert kinds[:3] == [("on", "n1"), ("start", "n1"), ("token", "n1")], kinds
    (start,) = [text for kind, _, text in blocks if kind == "start"]
    (token,) = [text for kind, _, text in blocks if kind == "token"]
    (join,) = [text for kind, _, text in blocks if kind == "join"]
    for kind, name, text in blocks:
        if kind == "start":
            places[name].start(text)
        elif kind == "join":
            # And the same on n3, with its own name, address and token.
            for number in (2, 3):
                place = places[f"n{number}"]
                made = places["n1"].sh(token).stdout.strip()
                own = text.replace("n2", place.name).replace("10.0.0.2", place.address)
                place.sh(own.replace("TOKEN", made))
                place.start(start)
                wait_for(lambda n=place.name: votes(places["n1"], n), 30, f"{place.name} to vote")
        elif kind == "on":
            told = places[name].sh(text).stdout
    assert told.splitlines()[-1] == "hello"
    assert join and "--server 10.0.0.1:4321" in join
    # docs/operations.md: one after the other; no statement elsewhere fails.
    for place in places.values():
        other = next(one for one in places.values() if one is not place)
        place.node.send_signal(signal.SIGTERM)
        assert place.node.wait(60) == 0
        other.sh(
            f"sqlite3 -cmd '.timeout 5000' /litefs/app.db \"insert into greeting values ('{place.name}')\""
        )
        place.start(start)
    places["n3"].sh("litefs-py barrier")
    rows = places["n3"].sh("sqlite3 /litefs/app.db 'select word from greeting'").stdout.split()
    assert rows == ["hello", "n1", "n2", "n3"]


def votes(place, name):
    lines = place.sh("litefs-py member list").stdout.splitlines()
    return any(name in line.split() and {"voter", "leader"} & set(line.split()) for line in lines)
