"""The container image: that it is what the OCI says, and what it does when it is run.

It is run by crun where there is one, else by unshare and chroot, always in namespaces of its own.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile

import pytest
from conftest import ROOT, need
from devcluster import die_with_parent, run, wait_for
from machines import free_port

MAKE = [sys.executable, ROOT / "packaging" / "oci.py"]


def make():
    told = run(*MAKE, deadline=120)
    return ROOT / told.stdout.split()[0]


@pytest.fixture(scope="module")
def image(static_program):
    need("readelf")
    return make()


class Unpacked:
    """The layout's files, and what they say."""

    def __init__(self, path):
        with tarfile.open(path) as tar:
            self.files = {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}
        self.index = json.loads(self.files["index.json"])
        self.manifest = json.loads(self.blob(self.index["manifests"][0]))
        self.config = json.loads(self.blob(self.manifest["config"]))

    def blob(self, described):
        kind, digest = described["digest"].split(":")
        data = self.files[f"blobs/{kind}/{digest}"]
        assert hashlib.sha256(data).hexdigest() == digest
        assert len(data) == described["size"]
        return data


def test_it_is_an_oci_layout(image, measured):
    unpacked = Unpacked(image)
    assert json.loads(unpacked.files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    assert len(unpacked.manifest["layers"]) == 1
    import gzip

    layer = gzip.decompress(unpacked.blob(unpacked.manifest["layers"][0]))
    assert unpacked.config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert set(unpacked.files) == {"oci-layout", "index.json"} | {
        f"blobs/sha256/{each['digest'].split(':')[1]}"
        for each in (
            unpacked.index["manifests"][0],
            unpacked.manifest["config"],
            *unpacked.manifest["layers"],
        )
    }
    run_by = unpacked.config["config"]
    assert run_by["Entrypoint"] + run_by["Cmd"] == ["/usr/bin/litefs-py", "node"]
    measured(f"container image: {image.stat().st_size / 1e6:.1f} MB")


def test_the_same_source_makes_the_same_image(image):
    before = image.read_bytes()
    assert make().read_bytes() == before


class Ran:
    """A container of the image: its root file system, and folders of the machine's for /litefs and what is
    to stay."""

    def __init__(self, image, folder):
        self.folder, self.root = folder, folder / "root"
        self.unpacked = Unpacked(image)
        layer = folder / "layer.tar.gz"
        layer.write_bytes(self.unpacked.blob(self.unpacked.manifest["layers"][0]))
        with tarfile.open(layer) as tar:
            tar.extractall(self.root, filter="tar")
        self.etc, self.data, self.shared = (folder / name for name in ("etc", "data", "shared"))
        self.mount = self.shared / "litefs"
        for made in (self.etc, self.data, self.shared):
            made.mkdir()
        # What is mounted in it stays its own.
        run("mount", "--bind", self.root, self.root)
        run("mount", "--make-private", self.root)
        # As `-v …:/srv:rshared` wants it: what is mounted inside is seen outside. The folder above the mount
        # point: what a dead daemon left mounted is then in nobody's way.
        run("mount", "--bind", self.shared, self.shared)
        run("mount", "--make-shared", self.shared)
        (self.root / "srv").mkdir()
        self.process = None

    def arguments(self, *arguments):
        config = self.unpacked.config["config"]
        return [*config["Entrypoint"], *(arguments or config["Cmd"])]

    def start(self, *arguments):
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(
            self.command(self.arguments(*arguments)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,
        )
        log.close()

    def log(self):
        return (self.folder / "log").read_text()

    def first(self):
        """The process that is the container's number 1."""
        found = []
        pending = [self.process.pid]
        while pending:
            pid = pending.pop()
            try:
                children = open(f"/proc/{pid}/task/{pid}/children").read().split()
                status = open(f"/proc/{pid}/status").read()
            except OSError:
                continue
            numbers = status.split("NSpid:")[1].split("\n")[0].split()
            if numbers[-1] == "1" and len(numbers) > 1 and "Name:\tlitefs-py" in status:
                found.append(pid)
            pending += map(int, children)
        return found[0] if found else None

    def healthy(self):
        """Its health check, as a container engine runs it: inside."""
        pid = self.first()
        if pid is None:
            return False
        test = self.unpacked.config["config"]["Healthcheck"]["Test"]
        assert test[0] == "CMD"
        inside = ["nsenter", "--target", pid, "--mount", "--pid", "--root"]
        return run(*inside, *test[1:], check=False).returncode == 0

    def ends(self, how):
        os.kill(self.first(), how)
        return self.process.wait(60)

    def clear(self):
        if self.process is not None and self.process.poll() is None:
            if pid := self.first():
                os.kill(pid, signal.SIGKILL)
            self.process.wait(30)
        for point in (self.shared, self.root):
            run("umount", "--recursive", "--lazy", point, check=False)
        run("chattr", "-i", self.mount, check=False)


class ByCrun(Ran):
    name = f"litefs-py-test-{os.getpid()}"

    def command(self, arguments):
        # What podman and docker give by default that matters here, and SYS_ADMIN.
        capabilities = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SYS_ADMIN"]
        kinds = ("bounding", "effective", "permitted")
        bind = {"type": "bind", "options": ["rbind"]}
        spec = {
            "ociVersion": "1.0.2",
            "process": {
                "args": arguments,
                "cwd": "/",
                "env": self.unpacked.config["config"]["Env"],
                "user": {"uid": 0, "gid": 0},
                "capabilities": dict.fromkeys(kinds, capabilities),
                "noNewPrivileges": True,
            },
            "root": {"path": str(self.root)},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {
                    "destination": "/dev",
                    "type": "tmpfs",
                    "source": "tmpfs",
                    "options": ["mode=755"],
                },
                {"destination": "/etc/litefs-py", "source": str(self.etc), **bind},
                {"destination": "/var/lib/litefs-py", "source": str(self.data), **bind},
                {
                    "destination": "/srv",
                    "source": str(self.shared),
                    "type": "bind",
                    "options": ["rbind", "rshared"],
                },
            ],
            "linux": {
                "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
                "devices": [
                    {
                        "path": "/dev/fuse",
                        "type": "c",
                        "major": 10,
                        "minor": 229,
                        "fileMode": 0o666,
                    },
                ],
                "rootfsPropagation": "shared",
            },
        }
        (self.folder / "config.json").write_text(json.dumps(spec))
        # crun wants cgroup2, also on a host that has the first version beside it.
        inside = (
            "[ -e /sys/fs/cgroup/cgroup.controllers ] || { mount --make-rprivate /sys;"
            " umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; }; "
            'exec crun --cgroup-manager=disabled run --bundle "$@"'
        )
        own = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-ec", inside, "sh"]
        return [*own, self.folder, self.name]

    def clear(self):
        super().clear()
        run("crun", "delete", "--force", self.name, check=False)


class ByUnshare(Ran):
    def command(self, arguments):
        inside = "\n".join(
            [
                f"mount --rbind {self.etc} {self.root}/etc/litefs-py",
                f"mount --rbind {self.data} {self.root}/var/lib/litefs-py",
                f"mount --rbind {self.shared} {self.root}/srv",
                f"mount -t proc proc {self.root}/proc",
                f"mount -t tmpfs tmpfs {self.root}/dev",
                f"mknod -m 666 {self.root}/dev/fuse c 10 229",
                f'exec chroot {self.root} "$@"',
            ]
        )
        namespaces = [
            "--mount",
            "--propagation",
            "unchanged",
            "--pid",
            "--fork",
            "--kill-child",
            "--ipc",
            "--uts",
        ]
        return ["unshare", *namespaces, "sh", "-ec", inside, "sh", *arguments]


@pytest.fixture(params=[ByCrun, ByUnshare], ids=["crun", "unshare"])
def ran(request, image, tmp_path):
    need("unshare", "nsenter", "sqlite3", root=True, fuse=True)
    if request.param is ByCrun:
        need("crun")
    container = request.param(image, tmp_path)
    yield container
    container.clear()


def set_up(container):
    """`init` in the container, and ports of its own: it has the machine's network."""
    mesh = f"127.0.0.1:{free_port()}"
    container.start(
        "init", "--cluster", "test", "--name", "n1", "--address", mesh, "--mount", "/srv/litefs"
    )
    assert container.process.wait(30) == 0, container.log()
    config = container.etc / "config.yml"
    text = config.read_text()
    config.write_text(text + f"api:\n  listen: 127.0.0.1:{free_port()}\n")
    return container


def sql(container, statement):
    return run(
        "sqlite3", "-cmd", ".timeout 5000", container.mount / "app.db", statement
    ).stdout.strip()


def test_a_container_serves_stops_and_goes_on(ran):
    set_up(ran)
    for number, how in enumerate((signal.SIGTERM, signal.SIGINT, signal.SIGTERM), 1):
        ran.start()
        wait_for(ran.healthy, 30, f"the health check; {ran.log()}")
        # Seen outside of it, as other containers see it.
        sql(ran, "create table if not exists t(a)")
        sql(ran, f"insert into t values ({number})")
        assert sql(ran, "select count(*) from t") == str(number)
        assert ran.ends(how) == 0, ran.log()
        assert not os.path.ismount(ran.mount)


def test_without_a_configuration_it_says_what_to_do(ran):
    ran.start()
    assert ran.process.wait(30) == 78, ran.log()
    assert "/etc/litefs-py/config.yml" in ran.log()


def test_a_killed_container_leaves_no_mount_in_the_way(ran):
    set_up(ran)
    ran.start()
    wait_for(ran.healthy, 30, f"the health check; {ran.log()}")
    sql(ran, "create table t(a); insert into t values (1)")
    ran.ends(signal.SIGKILL)

    def restarted():
        """As a restart policy does: until it stays."""
        if ran.process.poll() is not None:
            ran.start()
        return ran.healthy()

    wait_for(restarted, 60, f"the health check; {ran.log()}")
    assert sql(ran, "select count(*) from t") == "1"
    assert ran.ends(signal.SIGTERM) == 0


def test_crun_is_what_the_engines_use():
    """One of both ways is always tried; this says which is not."""
    if not shutil.which("crun"):
        pytest.skip("there is no crun: containers are started by unshare alone")
