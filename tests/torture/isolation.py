"""Namespaces of a run's own: mounts, network and processes.

Everything that a run makes, it makes in there: bridges, the nodes' network namespaces, FUSE mounts,
small file systems, daemons, clients. When the process that entered ends, however it ends, the kernel
takes all of it away; nothing has to be cleaned up and no name can collide.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
MS_REMOUNT, MS_REC, MS_PRIVATE = 0x20, 0x4000, 0x40000
MNT_FORCE, MNT_DETACH = 1, 2
PR_SET_PDEATHSIG = 1

LIBC = ctypes.CDLL(None, use_errno=True)


def why_not(program):
    """Why a run cannot be made on this machine; nothing if it can."""
    if os.geteuid() != 0:
        return "must be root, for namespaces and mounts"
    if not Path("/dev/fuse").exists():
        return "there is no /dev/fuse"
    for tool in ("ip", "nft", "nsenter", "openssl", "sqlite3"):
        if not shutil.which(tool):
            return f"there is no {tool}"
    if not Path(program).exists():
        return f"there is no {program}: cargo build"
    return None


def call(name, *arguments):
    if getattr(LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def mount(source, target, kind, flags=0, data=None):
    text = [part.encode() if part is not None else None for part in (source, str(target), kind)]
    call("mount", *text, ctypes.c_ulong(flags), data.encode() if data else None)


def end_mount(target):
    """By force: whoever waits for what is mounted there gets an error. Nothing if it has gone."""
    LIBC.umount2(str(target).encode(), MNT_FORCE | MNT_DETACH)


def die_with_parent():
    """A child's first act: nothing outlives whoever started it."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def enter():
    """Goes on as the first process of new namespaces; the calling process waits for it, hands it
    the signals that it gets, and ends with its exit code."""
    call("unshare", CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        die_with_parent()
        mount(None, "/", None, MS_REC | MS_PRIVATE)
        mount("proc", "/proc", "proc")
        os.makedirs("/run/netns", exist_ok=True)
        mount("tmpfs", "/run/netns", "tmpfs")
        return
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def command(*words, seconds=60):
    """A program that may touch a mount; an error when it fails, or hangs."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
    if done.returncode:
        raise OSError(f"{' '.join(words)[:300]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
