"""One systemd-nspawn container: how it is started, cut off, frozen, and how its power goes."""

import os
import shutil
import subprocess
import time
from pathlib import Path

from .place import CGROUPS, remove_tree

# All that a machine writes, its databases with it.
DISK = "384m"


class Container:
    # So long it may take until its systemd answers.
    BOOT = 60

    def __init__(self, name, folder, lower, cable, hosts, group, log):
        self.name, self.cable, self.folder = name, cable, Path(folder)
        # What its console and its commands say.
        self.log = log
        self.group = CGROUPS / group / name
        self.group.mkdir(parents=True)
        self.folder.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", folder], check=True)
        self.root, self.data = self.folder / "root", self.folder / "data"
        for made in ("upper", "work", "root", "data"):
            (self.folder / made).mkdir()
        # A node of its own: the machine's systemd sets its mode.
        self.fuse = self.folder / "fuse"
        os.mknod(self.fuse, 0o20600, os.stat("/dev/fuse").st_rdev)
        upper = f"upperdir={self.folder / 'upper'},workdir={self.folder / 'work'}"
        options = f"lowerdir={lower},{upper}"
        subprocess.run(["mount", "-t", "overlay", "none", "-o", options, self.root], check=True)
        (self.root / "etc/hosts").write_text(hosts)
        # A disk of its own beneath what the package has made.
        made = (self.root / "var/lib/litefs-py").stat()
        os.chown(self.data, made.st_uid, made.st_gid)
        self.data.chmod(made.st_mode & 0o7777)
        self.process, self.init = None, None

    def start(self):
        self.process = subprocess.Popen(
            [
                "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit",
                f"--machine={self.name}", f"--directory={self.root}",
                f"--network-namespace-path=/run/netns/{self.name}", "--capability=CAP_NET_ADMIN",
                f"--bind={self.fuse}:/dev/fuse", f"--bind={self.data}:/var/lib/litefs-py",
                "--console=pipe", "--link-journal=no", "--resolv-conf=off", "--timezone=off",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            env={"PATH": os.environ["PATH"], "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            preexec_fn=self.join(self.group),
        )  # fmt: skip
        self.init = None

    @staticmethod
    def join(group):
        return lambda: (group / "cgroup.procs").write_text("0")

    def is_up(self):
        return self.process is not None and self.process.poll() is None

    def find_init(self):
        """The process that is the container's first; none while there is none."""
        if self.init is None and self.is_up():
            threads = Path(f"/proc/{self.process.pid}/task").glob("*/children")
            children = " ".join(each.read_text() for each in threads).split()
            named = [pid for pid in children if name_of(pid) == "systemd"]
            self.init = named[0] if named else None
        return self.init

    def run(self, command, timeout):
        """(exit code, standard output) of a command of bash inside. It belongs to the machine: frozen and
        killed with it."""
        namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        process = subprocess.Popen(
            ["nsenter", "--target", self.init, *namespaces, "bash", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            errors="replace",
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"},
            preexec_fn=self.join(self.group / "supervisor"),
        )
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return process.returncode, output

    def freeze(self, frozen):
        (self.group / "cgroup.freeze").write_text("1" if frozen else "0")
        if frozen:
            self.becomes("frozen 1", or_else=self.stands_still)
        else:
            self.becomes("frozen 0")

    def stands_still(self):
        """Nothing of it runs. A program that waits for an answer of the mount cannot be frozen in that wait, so
        that the kernel never says that all are; the daemon that would answer is."""
        groups = [Path(folder) for folder, _, _ in os.walk(self.group)]
        pids = [pid for group in groups for pid in (group / "cgroup.procs").read_text().split()]
        states = [state_of(task) for pid in pids for task in Path(f"/proc/{pid}/task").glob("*")]
        return "R" not in states

    def becomes(self, state, or_else=None):
        """The other way is looked at when it takes long, and has to hold ten times in a row."""
        began, held = time.monotonic(), 0
        while state not in (self.group / "cgroup.events").read_text().splitlines() and held < 10:
            waited = time.monotonic() - began
            if waited > 30:
                raise OSError(f"{self.name} does not become {state!r}")
            held = held + 1 if waited > 1 and or_else and or_else() else 0
            time.sleep(0.01)

    def kill(self):
        """Everything at once; what it wrote stays, as on a disk. The host's memory is not lost: what a
        disk forgets without power is for tests/power_loss."""
        (self.group / "cgroup.kill").write_text("1")
        self.wait(30)
        self.becomes("populated 0")

    def wait(self, timeout):
        self.process.wait(timeout)
        self.process, self.init = None, None

    def journal(self):
        """All boots, also of one that is dead."""
        command = [
            "journalctl",
            "--no-pager",
            "-o",
            "short-precise",
            "-D",
            self.root / "var/log/journal",
        ]
        told = subprocess.run(command, capture_output=True, text=True, errors="replace")
        return told.stdout or told.stderr

    def copy(self, source, target):
        shutil.copyfile(self.root / str(source).lstrip("/"), target)

    def clear(self):
        if self.is_up():
            self.kill()
        self.log.close()
        remove_tree(self.group)
        for point in (self.root, self.folder):
            subprocess.run(["umount", "--lazy", point], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def state_of(task):
    """As proc(5) has it: R runs."""
    try:
        return (task / "stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return ""


def name_of(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
