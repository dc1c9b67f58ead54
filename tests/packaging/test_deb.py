"""The Debian package: what is in it, and that it is the same each time. What it does on a machine is in
vm-tests/debian/package_life.py."""

import subprocess
import sys

import pytest
from conftest import ROOT, need
from devcluster import run

MAKE = [sys.executable, ROOT / "packaging" / "deb.py"]
# All that it installs, but pages of the manual and of the documentation.
FILES = {
    "/etc/default/litefs-py": "-rw-r--r--",
    "/usr/bin/litefs-py": "-rwxr-xr-x",
    "/usr/lib/systemd/system/litefs-py.service": "-rw-r--r--",
    "/usr/lib/systemd/system/litefs-py.target": "-rw-r--r--",
    "/usr/lib/sysusers.d/litefs-py.conf": "-rw-r--r--",
    "/usr/share/bash-completion/completions/litefs-py": "-rw-r--r--",
    "/usr/share/zsh/vendor-completions/_litefs-py": "-rw-r--r--",
    "/usr/share/fish/vendor_completions.d/litefs-py.fish": "-rw-r--r--",
}
PAGES = ("/usr/share/man/man1/litefs-py", "/usr/share/doc/litefs-py/")


def make(*options):
    told = run(*MAKE, *options, deadline=300)
    return ROOT / told.stdout.split()[0]


@pytest.fixture(scope="module")
def package(static_program):
    need("dpkg-deb", "readelf")
    return make()


def contents(package):
    """Of each file: mode and owner."""
    lines = run("dpkg-deb", "--contents", package).stdout.splitlines()
    rows = [line.split(maxsplit=5) for line in lines]
    return {row[5].removeprefix("."): (row[0], row[1]) for row in rows if row[0][0] != "d"}


def test_what_is_in_it(package, measured):
    found = contents(package)
    named = {path: mode for path, (mode, _) in found.items() if not path.startswith(PAGES)}
    assert named == FILES
    assert {owner for _, owner in found.values()} == {"root/root"}
    for page in ("litefs-py.1.gz", "litefs-py-node.1.gz", "litefs-py-unmount.1.gz"):
        assert f"/usr/share/man/man1/{page}" in found
    for page in ("copyright", "changelog.gz", "README.md", "docs/operations.md"):
        assert f"/usr/share/doc/litefs-py/{page}" in found
    measured(f"Debian package: {package.stat().st_size / 1e6:.1f} MB")


def test_what_it_says_of_itself(package):
    fields = ["Package", "Version", "Architecture", "Depends"]
    told = run(
        "dpkg-deb", "--show", "--showformat", "".join(f"${{{f}}}\n" for f in fields), package
    )
    name, version, architecture, depends = told.stdout.splitlines()
    import common

    assert (name, version) == ("litefs-py", f"{common.version()}-1")
    assert architecture == common.architecture()
    # Static: nothing that changes from one Debian to the next.
    assert depends == "passwd"
    told = run("dpkg-deb", "--info", package, "conffiles")
    assert told.stdout == "/etc/default/litefs-py\n"


def test_the_unit_is_the_one_of_all_ways(package, tmp_path):
    run("dpkg-deb", "--extract", package, tmp_path)
    for name in ("litefs-py.service", "litefs-py.target"):
        unit = tmp_path / "usr/lib/systemd/system" / name
        assert unit.read_bytes() == (ROOT / "packaging" / name).read_bytes()
    pages = [*(tmp_path / "usr/share/man/man1").iterdir()]
    subprocess.run(["gzip", "--test", *pages], check=True)
    shell = tmp_path / "usr/share/bash-completion/completions/litefs-py"
    subprocess.run(["bash", "-n", shell], check=True)


def test_the_same_source_makes_the_same_package(package):
    before = package.read_bytes()
    assert make().read_bytes() == before


def test_a_program_with_libraries_is_refused(tmp_path):
    need("readelf")
    done = run(
        *MAKE, check=False, env={"PATH": "/usr/bin:/bin", "LITEFS_PY_STATIC": sys.executable}
    )
    # The interpreter of a machine may itself be static; then there is nothing to refuse.
    needed = "NEEDED" in run("readelf", "--dynamic", sys.executable).stdout
    assert not needed or (done.returncode == 1 and "is not static" in done.stderr)
