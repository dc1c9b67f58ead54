"""images/install, which puts the appliance on a disk: on a disk of this machine's own, beside a `nixos-install`
that writes down what it is told. What NixOS makes of the disk then, only Nix shows."""

import os
import subprocess

import pytest
from conftest import ROOT, need

INSTALL = ROOT / "images" / "install"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample operator\n"
INSTALLED = """#!/bin/sh
echo "$@" > "$TOLD"
findmnt -rno TARGET,LABEL --target "$2" >> "$TOLD"
findmnt -rno TARGET,LABEL --target "$2/boot" >> "$TOLD"
"""
# Where the kernel cannot read vfat: an ext4 of the same label in its place.
NO_VFAT = {
    "mkfs.vfat": """#!/bin/sh
exec mkfs.ext4 -q -L ESP "$5"
""",
    "mount": """#!/bin/sh
[ "$1" != -o ] || shift 2
exec /usr/bin/mount "$@"
""",
}


def reads_vfat():
    """The kernel does, or learns it."""
    known = "PATH=$PATH:/usr/sbin:/sbin; modprobe vfat; grep -qw vfat /proc/filesystems"
    return subprocess.run(["sh", "-c", known], stderr=subprocess.DEVNULL).returncode == 0


def partitions(disk):
    """By label and file system, where they are; without what udev would know."""
    listed = ["lsblk", "-nro", "PATH,TYPE", disk]
    shown = subprocess.run(listed, capture_output=True, text=True, check=True).stdout
    paths = [line.split()[0] for line in shown.splitlines() if line.endswith(" part")]
    probe = "blkid -p -o value -s LABEL -s TYPE".split()
    found = [subprocess.run([*probe, path], capture_output=True, text=True) for path in paths]
    return {" ".join(one.stdout.split()): path for one, path in zip(found, paths, strict=True)}


@pytest.fixture
def disk(tmp_path):
    """Of 1 GiB, mostly a hole."""
    need("losetup", "sfdisk", "mkfs.vfat", "mkfs.ext4", "wipefs", root=True)
    file = tmp_path / "disk"
    file.touch()
    os.truncate(file, 1 << 30)
    made = subprocess.run(
        ["losetup", "--find", "--show", "--partscan", file], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr.strip()}")
    name = made.stdout.strip()
    yield name
    subprocess.run(["partx", "--delete", name], stderr=subprocess.DEVNULL)
    subprocess.run(["losetup", "--detach", name], check=True)


@pytest.fixture
def install(tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    stood_in = {} if reads_vfat() else NO_VFAT
    for name, text in {"nixos-install": INSTALLED, **stood_in}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (tmp_path / "key").write_text(KEY)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin",
        "SYSTEM": "/nix/store/appliance",
        "TOLD": str(tmp_path / "told"),
    }

    def run(*arguments, typed=""):
        return subprocess.run(
            ["sh", INSTALL, *map(str, arguments)],
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
            cwd=tmp_path,
        )

    return run


def test_a_disk_becomes_a_node(install, disk, tmp_path):
    first_boot = tmp_path / "first-boot"
    first_boot.write_text("CLUSTER=app\n")
    done = install(disk, "--key", "key", "--first-boot", first_boot, "--yes")
    assert done.returncode == 0, done.stderr
    told, root, boot = (tmp_path / "told").read_text().splitlines()
    assert "--system /nix/store/appliance --no-root-passwd" in told
    assert root.endswith(" nixos") and boot.endswith("/boot ESP")
    made = partitions(disk)
    assert list(made) == ["ESP vfat" if reads_vfat() else "ESP ext4", "nixos ext4"]
    at = tmp_path / "mounted"
    at.mkdir()
    root = made["nixos ext4"]
    subprocess.run(["mount", root, at], check=True)
    try:
        keys, first = at / "root/.ssh/authorized_keys", at / "etc/litefs-py/first-boot"
        assert (keys.read_text(), first.read_text()) == (KEY, "CLUSTER=app\n")
        assert [path.stat().st_mode & 0o777 for path in (keys, first)] == [0o600, 0o600]
    finally:
        subprocess.run(["umount", at], check=True)


def test_it_asks_before_anything_is_lost(install, disk):
    subprocess.run(["mkfs.ext4", "-q", "-L", "precious", disk], check=True)
    for typed in ("", "/dev/other\n"):
        done = install(disk, "--key", "key", typed=typed)
        assert done.returncode != 0
    label = ["blkid", "-p", "-o", "value", "-s", "LABEL", disk]
    assert subprocess.run(label, capture_output=True, text=True).stdout == "precious\n"
    assert install(disk, "--key", "key", typed=f"{disk}\n").returncode == 0


def test_a_disk_in_use_is_left_alone(install, disk, tmp_path):
    at = tmp_path / "used"
    at.mkdir()
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    subprocess.run(["mount", disk, at], check=True)
    try:
        done = install(disk, "--key", "key", "--yes")
        assert done.returncode == 1 and "is in use" in done.stderr
    finally:
        subprocess.run(["umount", at], check=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "which disk?"),
        (["/dev/none"], "is no block device"),
        (["--key"], "wants a file"),
        (["--key", "none"], "cannot be read"),
        (["--force"], "there is no --force"),
    ],
)
def test_what_is_wrong_is_said(install, arguments, said):
    need("lsblk")
    done = install(*arguments)
    assert done.returncode == 1 and said in done.stderr


def test_nobody_could_log_in(install, disk, tmp_path):
    done = install(disk, "--yes")
    assert done.returncode == 1 and "--key" in done.stderr
    (tmp_path / "empty").write_text("# none\n")
    done = install(disk, "--key", "empty", "--yes")
    assert done.returncode == 1 and "no public key" in done.stderr
