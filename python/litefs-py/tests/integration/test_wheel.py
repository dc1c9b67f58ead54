"""The wheel, built and installed into a fresh virtual environment, brings up a cluster."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from litefs_py import find_program
from litefs_py.testing import why_not

PACKAGE = Path(__file__).parents[2]
MANY = "py3-none-manylinux_2_17_{0}.manylinux2014_{0}.musllinux_1_1_{0}.whl"
HERE = os.uname().machine
SMOKE = """
import sys
from litefs_py import find_program
from litefs_py.cluster import Cluster
assert str(find_program()).startswith(sys.prefix), find_program()
with Cluster(sys.argv[1]) as cluster:
    for number, node in enumerate(cluster.nodes):
        with node.connect("app.db") as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS t(a)")
            connection.execute("INSERT INTO t VALUES (?)", [number])
        connection.close()
    cluster.kill(cluster.leader())
    connection = cluster.leader().connect("app.db")
    print(connection.execute("SELECT count(*) FROM t").fetchone()[0])
    connection.close()
    cluster.heal()
"""


@pytest.fixture(params=["ordinary", "static"])
def program(request):
    """A program as the wheel has it."""
    if reason := why_not():
        pytest.skip(reason)
    if request.param == "ordinary":
        return find_program()
    built = os.environ.get("LITEFS_PY_STATIC")
    if not built or not Path(built).exists():
        pytest.skip("LITEFS_PY_STATIC names no static program; make torture PART=wheels builds one")
    return Path(built)


@pytest.fixture
def wheel(program, tmp_path):
    """Its wheel."""
    environment = {**os.environ, "LITEFS_PY_BINARY": str(program)}
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist"]
    done = subprocess.run(command, cwd=PACKAGE, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = (tmp_path / "dist").iterdir()
    return made


@pytest.fixture
def fresh(wheel, tmp_path):
    """A virtual environment with the wheel; what that depends on is here already."""
    folder = tmp_path / "fresh"
    venv.create(folder, with_pip=True)
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True, timeout=120)
    return folder


def own_environment():
    """Without what names another program."""
    return {key: value for key, value in os.environ.items() if key != "LITEFS_PY"}


def test_the_wheel(wheel, program, fresh, tmp_path):
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith(".data/scripts/litefs-py") for name in names)
    assert "litefs_py/py.typed" in names
    assert wheel.name.endswith(MANY.format(HERE)) is not wants_libraries(program)
    assert "linux_" in wheel.name
    installed = fresh / "bin/litefs-py"
    said = subprocess.run(
        [installed, "--version"], capture_output=True, text=True, env=own_environment()
    )
    assert said.stdout.startswith("litefs-py ")
    here = next(path for path in sys.path if path.endswith("site-packages"))
    done = subprocess.run(
        [fresh / "bin/python", "-c", SMOKE, tmp_path / "cluster"],
        env={**own_environment(), "PYTHONPATH": here},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.stdout.strip() == "3", done.stdout + done.stderr


def wants_libraries(program):
    """By the system's own tools, and not by what names the wheel."""
    if shutil.which("readelf") is None:
        pytest.skip("no readelf (binutils)")
    said = subprocess.run(["readelf", "-lWd", program], capture_output=True, text=True, check=True)
    return "INTERP" in said.stdout or "(NEEDED)" in said.stdout


def made(machine):
    """The wheel that was built for a machine (tools/wheels.py)."""
    folder = os.environ.get("LITEFS_PY_DIST", "")
    wheels = sorted(Path(folder).glob(f"litefs_py-*{machine}*.whl")) if folder else []
    if not wheels:
        pytest.skip(
            f"no wheel for {machine} in LITEFS_PY_DIST; make torture PART=wheels builds one"
        )
    return wheels[-1]


def unpacked(wheel, folder):
    """The program in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".data/scripts/litefs-py"))
        file = Path(archive.extract(name, folder))
    file.chmod(0o755)
    return file


def test_the_wheel_of_aarch64(tmp_path):
    wheel = made("aarch64")
    assert wheel.name.endswith(MANY.format("aarch64"))
    file = unpacked(wheel, tmp_path)
    assert not wants_libraries(file)
    said = subprocess.run(["readelf", "-hW", file], capture_output=True, text=True, check=True)
    assert "AArch64" in said.stdout
    for system in ("manylinux_2_17_aarch64", "musllinux_1_1_aarch64"):
        assert installable(wheel, system, tmp_path / system)
    assert not installable(wheel, "manylinux_2_17_x86_64", tmp_path / "other")


def installable(wheel, system, folder):
    """Whether pip takes it for such a system."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-index"]
    command += ["--only-binary=:all:", "--platform", system, "--dest", folder]
    done = subprocess.run(
        [*command, "--find-links", wheel.parent, "litefs-py"], capture_output=True, text=True
    )
    return done.returncode == 0 and (folder / wheel.name).exists()


def test_the_program_of_aarch64_runs(tmp_path):
    file = unpacked(made("aarch64"), tmp_path)
    how = [] if HERE == "aarch64" else [shutil.which("qemu-aarch64-static")]
    if how == [None]:
        pytest.skip("no qemu-aarch64-static (qemu-user-static)")
    said = {}
    for command in (["--version"], ["config", "schema"]):
        done = subprocess.run([*how, file, *command], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        said[command[-1]] = done.stdout
    assert said["--version"].startswith("litefs-py ")
    ours = subprocess.run([find_program(), "config", "schema"], capture_output=True, text=True)
    assert said["schema"] == ours.stdout
