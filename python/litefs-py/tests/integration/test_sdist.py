"""The sdist has all that it takes to build the wheel of it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2]
REPOSITORY = PACKAGE.parents[1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The file."""
    folder = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder]
    subprocess.run(command, cwd=PACKAGE, check=True, capture_output=True)
    (made,) = folder.iterdir()
    return made


@pytest.fixture
def unpacked(sdist, tmp_path):
    """Its folder, away from the repository."""
    subprocess.run(["tar", "-xf", sdist, "-C", tmp_path], check=True)
    (folder,) = tmp_path.iterdir()
    return folder


def test_it_has_the_sources(unpacked):
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", "src", "stand-in", "Cargo.toml", "Cargo.lock"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("no git here to tell what belongs to it")
    for name in filter(None, listed.stdout.split("\0")):
        assert (unpacked / "rust" / name).read_bytes() == (REPOSITORY / name).read_bytes(), name
    for name in ("hatch_build.py", "src/litefs_py/__init__.py", "rust/rust-toolchain.toml"):
        assert (unpacked / name).exists()


def test_cargo_has_what_it_needs(unpacked):
    if shutil.which("cargo") is None:
        pytest.skip("no cargo")
    # Every package of the lock file, those in folders too; without the network: cargo has them from the build.
    done = subprocess.run(
        ["cargo", "metadata", "--locked", "--offline", "--format-version", "1"],
        cwd=unpacked / "rust",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert str(unpacked / "rust/stand-in/base2histogram/Cargo.toml") in done.stdout
    assert str(REPOSITORY) not in done.stdout


def test_a_wheel_is_built_of_it(sdist, tmp_path):
    if os.environ.get("LITEFS_PY_SLOW") != "1":
        pytest.skip("it compiles the whole program; make torture PART=wheels, or LITEFS_PY_SLOW=1")
    if shutil.which("cargo") is None:
        pytest.skip("no cargo")
    environment = {key: value for key, value in os.environ.items() if key != "LITEFS_PY_BINARY"}
    environment["LITEFS_PY_PROFILE"] = "dev"
    # Kept, so that the dependencies are compiled once; the program of the repository is left alone.
    environment["CARGO_TARGET_DIR"] = str(REPOSITORY / "target/sdist")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["--wheel-dir", tmp_path / "wheels", sdist]
    subprocess.run(command, check=True, cwd=tmp_path, env=environment)
    (wheel,) = (tmp_path / "wheels").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".data/scripts/litefs-py"))
        program = Path(archive.extract(name, tmp_path))
    program.chmod(0o755)
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("litefs-py ")
