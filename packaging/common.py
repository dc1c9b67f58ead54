"""What every package is made from: the static program, its version, one time for all files."""

import os
import re
import subprocess
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Where packages go; tests put theirs, of a program that was built quickly, elsewhere.
BUILT = Path(os.environ.get("LITEFS_PY_PACKAGES", ROOT / "target" / "packages"))

# How hard packages are compressed, 1 to 9; tests make theirs quickly.
LEVEL = int(os.environ.get("LITEFS_PY_PACKED", "9"))

# Of Rust's name for a machine: Debian's, and the OCI's.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture():
    return ARCHITECTURES[os.uname().machine]


def static_program():
    """What `make static` builds; LITEFS_PY_STATIC names another one."""
    built = ROOT / "target" / f"{os.uname().machine}-unknown-linux-musl" / "dist" / "litefs-py"
    program = Path(os.environ.get("LITEFS_PY_STATIC", built))
    if not program.is_file():
        raise SystemExit(f"there is no {program}: make static")
    needed = dynamic_libraries(program)
    if needed:
        raise SystemExit(f"{program} is not static: it needs {', '.join(needed)}")
    return program


def dynamic_libraries(program):
    told = subprocess.run(
        ["readelf", "--dynamic", program], capture_output=True, text=True, check=True
    )
    return re.findall(r"\(NEEDED\).*\[(.+)\]", told.stdout)


@contextmanager
def made_whole(made):
    """Where to make it: it has its name once it is whole."""
    made.parent.mkdir(parents=True, exist_ok=True)
    part = made.with_name(f"{made.name}.part")
    try:
        yield part
        part.replace(made)
    finally:
        part.unlink(missing_ok=True)


def newest(kind):
    """Of what was made: `deb`, `qcow2`; none where there is none."""
    made = sorted(BUILT.glob(f"litefs-py_*.{kind}"), key=lambda path: path.stat().st_mtime)
    return made[-1] if made else None


def named(made):
    """As a person at the root of the repository calls it."""
    return made.relative_to(ROOT) if made.is_relative_to(ROOT) else made


def version():
    text = (ROOT / "Cargo.toml").read_text()
    return re.search(r'^version = "(.+)"$', text, re.MULTILINE)[1]


def time_of_the_source():
    """Seconds since 1970 of the commit, so that the same source makes the same package
    (reproducible-builds.org)."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return int(os.environ["SOURCE_DATE_EPOCH"])
    told = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True
    )
    return int(told.stdout) if told.returncode == 0 else 0
