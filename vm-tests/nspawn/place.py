"""Where the containers live: namespaces of their own for mounts, network and processes, so that nothing of
theirs is seen outside, and nothing is left when the runner ends, however it does.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
INSIDE = "LITEFS_PY_VM_TESTS_INSIDE"
# What `prepare` and the machines need, tried where nothing of it stays.
PROBE = f"""set -e
[ -e {CGROUPS}/cgroup.controllers ] || {{ umount -R {CGROUPS}; mount -t cgroup2 none {CGROUPS}; }}
mkdir {CGROUPS}/litefs-py-probe-$$; rmdir {CGROUPS}/litefs-py-probe-$$
mount -t tmpfs none /mnt
ip link add probe type bridge
"""


def enter():
    """Runs the program again inside, and ends with its exit code; inside, prepares the place.

    The name of the cgroup that all machines are in.
    """
    if INSIDE not in os.environ:
        sys.exit(run_inside())
    prepare()
    return os.environ[INSIDE]


def run_inside():
    group = f"litefs-py-vm-tests-{os.getpid()}"
    inside = subprocess.Popen(
        [
            "unshare", "--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child",
            "--mount-proc", sys.executable, *sys.argv,
        ],
        env={**os.environ, INSIDE: group},
    )  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: inside.terminate())
    try:
        return inside.wait()
    except KeyboardInterrupt:
        return inside.wait()
    finally:
        inside.kill()
        remove_group(group)


def prepare():
    """cgroup2 where systemd looks for it, also on a host that still has the first version beside it; and a
    folder for names of network namespaces."""
    if not (CGROUPS / "cgroup.controllers").exists():
        subprocess.run(["umount", "--recursive", CGROUPS], check=True)
        subprocess.run(["mount", "-t", "cgroup2", "none", CGROUPS], check=True)
    Path("/run/netns").mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run/netns"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def remove_group(name):
    """The cgroups outlive the namespaces; by now nobody is in them."""
    table = Path("/proc/self/mounts").read_text().splitlines()
    points = [line.split()[1] for line in table if line.split()[2] == "cgroup2"]
    for point in points:
        remove_tree(Path(point) / name)


def remove_tree(group):
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(folder)
        except OSError as error:
            print(f"{folder} is left behind: {error}", file=sys.stderr)


def missing():
    """Why it cannot be done on this machine; nothing when it can."""
    from shutil import which

    if os.geteuid() != 0:
        return "must be root, for containers"
    for program in ("systemd-nspawn", "unshare", "nsenter", "ip", "dpkg-deb"):
        if not which(program):
            return f"there is no {program} (Debian: systemd-container, util-linux, iproute2, dpkg)"
    if not Path("/dev/fuse").exists():
        return "there is no /dev/fuse"
    # Root of a container without these rights.
    own = ["unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c", PROBE]
    tried = subprocess.run(own, capture_output=True, text=True)
    if tried.returncode:
        why = tried.stderr.strip().splitlines() or ["no reason given"]
        return f"no namespaces, mounts, cgroups or bridges of its own are to be had: {why[-1]}"
    return None
