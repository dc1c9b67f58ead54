"""The Debian that the machines run: made once by mmdebstrap or debootstrap, kept in target/vm-tests; and
upon it a layer with the package, made anew for each package.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "target" / "vm-tests"
SUITE = "bookworm"
# Beyond the smallest Debian: systemd, and what scenarios and their load use.
INCLUDED = [
    "systemd", "systemd-sysv", "dbus", "iproute2", "nftables", "python3-minimal", "python3", "sqlite3",
    "curl", "netcat-openbsd", "procps", "e2fsprogs", "fuse3",
]  # fmt: skip
# Nothing of it is of use in a container of a few minutes.
MASKED = [
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
    "fstrim.timer", "systemd-firstboot.service", "e2scrub_reap.service", "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service", "systemd-networkd-wait-online.service",
]  # fmt: skip


def missing():
    """Why there is no Debian, and none can be made; nothing when there is."""
    if base_folder().exists() or os.environ.get("LITEFS_PY_DEBIAN") or maker():
        return None
    return (
        "there is no mmdebstrap or debootstrap to make a Debian with (LITEFS_PY_DEBIAN names one)"
    )


def maker():
    return next((name for name in ("mmdebstrap", "debootstrap") if shutil.which(name)), None)


def base_folder():
    wanted = f"{SUITE} {INCLUDED} {MASKED}"
    return KEPT / f"debian-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"


class NoDebian(Exception):
    """None could be made: no mirror, or not enough rights."""


def base():
    """The folder of a Debian; LITEFS_PY_DEBIAN names another one. The first time takes minutes."""
    if named := os.environ.get("LITEFS_PY_DEBIAN"):
        return Path(named)
    folder = base_folder()
    if not folder.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        print(f"making a Debian in {folder.relative_to(ROOT)}, once; some minutes", flush=True)
        new = folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        with open(KEPT / "debian.log", "w") as log:
            command = [maker(), "--variant=minbase", f"--include={','.join(INCLUDED)}", SUITE, new]
            done = subprocess.run(command, stdout=log, stderr=log)
        if done.returncode:
            shutil.rmtree(new, ignore_errors=True)
            raise NoDebian(f"{maker()} could not make a Debian: see {KEPT / 'debian.log'}")
        settle(new)
        new.rename(folder)
    return folder


def settle(folder):
    """As a machine is before its first boot."""
    (folder / "etc/machine-id").write_text("uninitialized\n")
    (folder / "etc/hostname").unlink(missing_ok=True)
    (folder / "var/log/journal").mkdir(parents=True, exist_ok=True)
    units = folder / "etc/systemd/system"
    for unit in MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    default = units / "default.target"
    default.unlink(missing_ok=True)
    default.symlink_to("/lib/systemd/system/multi-user.target")


def layer_of(package, folder, lower, litefs=None, site=None):
    """Installs the package upon `lower`, and LiteFS and a folder of Python packages where they are given; what that
    changed is in the folder that is answered. In /root of the machines: the package, and an earlier one."""
    upper, work, merged = (folder / name for name in ("upper", "work", "merged"))
    for made in (upper, work, merged):
        made.mkdir(parents=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, merged], check=True)
    try:
        shutil.copyfile(package, merged / "root" / "litefs-py.deb")
        shutil.copyfile(earlier_than(package, folder), merged / "root" / "litefs-py-earlier.deb")
        if litefs:
            shutil.copyfile(litefs, merged / "usr/bin/litefs")
            (merged / "usr/bin/litefs").chmod(0o755)
        if site:
            project = ROOT / "python" / "examples" / "django"
            shutil.copytree(site, merged / "opt/site")
            shutil.copytree(project, merged / "opt/project")
        done = subprocess.run(
            ["chroot", merged, "dpkg", "--install", "/root/litefs-py.deb"],
            capture_output=True,
            text=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
        )
        if done.returncode:
            raise SystemExit(f"the package cannot be installed: {done.stdout}{done.stderr}")
    finally:
        subprocess.run(["umount", merged], check=True)
    return upper


def earlier_than(package, folder):
    """What LITEFS_PY_EARLIER_PACKAGE names; else the same package, as an earlier version."""
    if named := os.environ.get("LITEFS_PY_EARLIER_PACKAGE"):
        return Path(named)
    unpacked, made = folder / "unpacked", folder / "earlier.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", package, unpacked], check=True)
    control = unpacked / "DEBIAN" / "control"
    lines = control.read_text().splitlines()
    changed = ["Version: 0.0.1-1" if line.startswith("Version: ") else line for line in lines]
    control.write_text("\n".join(changed) + "\n")
    build = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", unpacked, made]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(unpacked)
    return made
