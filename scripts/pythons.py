#!/usr/bin/env python3
"""Runs the unit tests of python/ on every Python, and with every Django: of this machine, and, where it lacks one, of
a Debian that has it.

    scripts/pythons.py

Each Debian is made by mmdebstrap, once, in target/pythons; python/tools/versions.py runs in it, on a copy of the
source. Ends with `N passed, N failed, N skipped`; a Python that no Debian has counts as one that was skipped. Wants
root, mmdebstrap, the packages' uv (scripts/setup.sh uv). Standard library only.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "target" / "pythons"
sys.path.insert(0, str(ROOT / "python" / "tools"))
import versions  # noqa: E402

SUITES = {"3.13": "trixie", "3.14": "sid"}
# libstdc++ is greenlet's, the time zones are Django's.
INCLUDED = "python3,python3-venv,ca-certificates,sqlite3,libstdc++6,tzdata"
SOURCE = ["python", "docs", "ruff.toml", "rust-toolchain.toml", "Cargo.toml"]
# How this machine reaches the package index.
KNOWN = ["/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"]
HERE = "python3 tools/versions.py --all"
ENTER = 'mount --bind /proc "$0/proc"; mount --bind /dev "$0/dev"; exec chroot "$0" sh -c "$1"'


def debian(suite):
    """Made anew when it is not whole."""
    folder = KEPT / suite
    if not folder.exists():
        print(f"making a Debian ({suite}) in {folder.relative_to(ROOT)}, once", flush=True)
        new = folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        KEPT.mkdir(parents=True, exist_ok=True)
        # A mirror may lag behind: what is old serves here.
        command = ["mmdebstrap", "--variant=minbase", f"--include={INCLUDED}"]
        command += ['--aptopt=Acquire::Check-Valid-Until "false"', suite, new]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        new.rename(folder)
    return folder


def put_source(folder):
    source = folder / "work"
    shutil.rmtree(source, ignore_errors=True)
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *SOURCE]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    uv = shutil.which("uv") or ROOT / "target/tools/uv/bin/uv"
    shutil.copy2(uv, folder / "usr/local/bin/uv")
    if program := os.environ.get("LITEFS_PY"):
        shutil.copy2(program, folder / "usr/local/bin/litefs-py")
    for name in KNOWN + [os.environ.get("PIP_CERT", ""), os.environ.get("SSL_CERT_FILE", "")]:
        if name and Path(name).is_file():
            target = folder / name.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copyfile(name, target)


def counted(command):
    """What versions.py says, and what it counted at its end."""
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.stdout, end="", flush=True)
    found = re.findall(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", done.stdout, re.MULTILINE)
    if not found:
        print(done.stderr[-2000:])
        return 0, 1, 0
    return tuple(map(int, found[-1]))


def in_debian(version):
    folder = debian(SUITES[version])
    put_source(folder)
    inside = f"cd /work/python && LITEFS_PY=/usr/local/bin/litefs-py {HERE} {version}"
    return counted(["unshare", "--mount", "sh", "-ec", ENTER, folder, inside])


def main():
    known = {version: versions.interpreter(version) for version in versions.VERSIONS}
    here = [version for version, path in known.items() if path]
    counts = [counted(["sh", "-c", f"cd {ROOT / 'python'} && {HERE} {' '.join(here)}"])]
    for version in known.keys() - here:
        reason = "" if version in SUITES else "no Debian has it"
        if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
            reason = "it takes root and mmdebstrap"
        if reason:
            print(f"SKIPPED Python {version}: it is not on this machine, and {reason}")
            counts.append((0, 0, 1))
        else:
            counts.append(in_debian(version))
    passed, failed, skipped = map(sum, zip(*counts, strict=True))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
