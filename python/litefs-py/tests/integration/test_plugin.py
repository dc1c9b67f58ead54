"""The pytest plugin as others use it, and `python -m litefs_py`."""

import subprocess
import sys

from litefs_py import find_program

TEST = """
def test_three(litefs_cluster, litefs_database):
    leader, follower = litefs_cluster.leader(), litefs_cluster.followers()[0]
    with leader.connect(litefs_database) as connection:
        connection.execute("CREATE TABLE t(a)")
    connection.close()
    # sqlite3 looks for the table before it begins the transaction that shows what the others have.
    litefs_cluster.settle(litefs_database)
    litefs_cluster.kill(leader)
    with follower.connect(litefs_database) as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    connection.close()

def test_one(litefs_node):
    assert litefs_node.check("primary")

def test_healed(litefs_cluster):
    assert all(node.is_alive() for node in litefs_cluster.nodes)
"""


def test_fixtures(tmp_path, litefs_node):
    (tmp_path / "test_it.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_the_module_is_the_program(litefs_node):
    command = [sys.executable, "-m", "litefs_py", "--version"]
    by_module = subprocess.run(command, capture_output=True, text=True, check=True)
    by_name = subprocess.run([find_program(), "--version"], capture_output=True, text=True)
    assert by_module.stdout == by_name.stdout
