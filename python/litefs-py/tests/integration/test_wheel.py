"""The wheel, built and installed into a fresh virtual environment, brings up a cluster."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from litefs_py import find_program
from litefs_py.testing import why_not

PACKAGE = Path(__file__).parents[2]
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


def build(kind, folder, program):
    environment = {**os.environ, "LITEFS_PY_BINARY": str(program)}
    code = f"import hatchling.build as b; b.build_{kind}({str(folder)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = folder.iterdir()
    return made


def test_the_wheel(tmp_path):
    if reason := why_not():
        pytest.skip(reason)
    (tmp_path / "dist").mkdir()
    wheel = build("wheel", tmp_path / "dist", find_program())
    assert "linux_" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith(".data/scripts/litefs-py") for name in names)
    assert "litefs_py/py.typed" in names
    fresh = tmp_path / "fresh"
    venv.create(fresh, with_pip=True)
    # What it depends on is here already; only the wheel itself is installed.
    here = next(path for path in sys.path if path.endswith("site-packages"))
    pip = [
        fresh / "bin/python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        wheel,
    ]
    subprocess.run(pip, check=True, timeout=120)
    environment = {key: value for key, value in os.environ.items() if key != "LITEFS_PY"}
    said = subprocess.run(
        [fresh / "bin/litefs-py", "--version"], capture_output=True, text=True, env=environment
    )
    assert said.stdout.startswith("litefs-py ")
    done = subprocess.run(
        [fresh / "bin/python", "-c", SMOKE, tmp_path / "cluster"],
        env={**environment, "PYTHONPATH": here},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.stdout.strip() == "3", done.stdout + done.stderr


def test_the_sdist_has_the_sources(tmp_path):
    import tarfile

    (tmp_path / "dist").mkdir()
    made = build("sdist", tmp_path / "dist", "none")
    with tarfile.open(made) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = {"hatch_build.py", "rust/Cargo.toml", "rust/Cargo.lock", "rust/src/main.rs"}
    assert (
        wanted | {"src/litefs_py/__init__.py", "rust/stand-in/base2histogram/Cargo.toml"} <= names
    )
