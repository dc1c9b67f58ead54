"""Tests of what is delivered: the unit, the Debian package, the container image, the scenarios, the Nix files.

pytest tests/packaging          needs `make static` for the packages; root and /dev/fuse to start them
LITEFS_PY_STATIC=/path          another static program
"""

import os
import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [
    str(ROOT / "packaging"),
    str(ROOT / "vm-tests"),
    str(HERE),
    str(HERE.parent / "cluster"),
]

# What NixOS runs.
SCENARIOS = sorted(
    path for part in ("scenarios", "nixos") for path in (ROOT / "vm-tests" / part).glob("*.py")
)

MEASURED = []


@pytest.fixture
def measured():
    """Figures are reported, not asserted: machines differ."""
    return MEASURED.append


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.stats.get("skipped", []):
        terminalreporter.write_line(f"SKIPPED {report.nodeid}: {report.longrepr[2]}")
    for line in MEASURED:
        terminalreporter.write_line(f"MEASURED {line}")


@pytest.fixture(scope="session")
def static_program():
    """What the packages are made from."""
    import common

    try:
        return common.static_program()
    except SystemExit as missing:
        pytest.skip(str(missing))


def named_nixpkgs():
    """The copy of nixpkgs that LITEFS_PY_TEST_NIXPKGS names."""
    nixpkgs = os.environ.get("LITEFS_PY_TEST_NIXPKGS")
    if not nixpkgs:
        pytest.skip("LITEFS_PY_TEST_NIXPKGS names no copy of nixpkgs")
    return nixpkgs


def need(*programs, root=False, fuse=False):
    if root and os.geteuid() != 0:
        pytest.skip("must be root")
    if fuse and not Path("/dev/fuse").exists():
        pytest.skip("there is no /dev/fuse")
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"there is no {program}")
