"""What an earlier version left on disk is read by this one. tests/record/data_folder.py made it."""

import json
import shutil
import subprocess

import pytest
import yaml
from cluster_fixtures import PROGRAM
from devcluster import ROOT, Cluster, run, wait_for

FOLDERS = sorted((ROOT / "tests" / "fixtures").glob("data-folder-v*"))
SETTINGS = {"journal: wal": "journal: any", "log_purge_bytes: 64MiB": "log_purge_bytes: 1MiB"}
QUESTIONS = [
    "SELECT id, word FROM t ORDER BY id",
    "SELECT count(*), count(DISTINCT x), sum(length(x)), hex(substr(min(x), 1, 8)) FROM filler",
    "PRAGMA journal_mode",
    "PRAGMA integrity_check",
]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_data_folder_of_an_earlier_version(folder, tmp_path):
    """Every row is there, in both journal modes, and what is written upon it stays."""
    cluster = Cluster(tmp_path / "dev", nodes=1, program=PROGRAM)
    try:
        # Configuration and certificates are made anew: those of the fixture would expire.
        cluster.spawn()
        wait_for((cluster.folder / "dev.json").exists, 30, "dev.json")
        cluster.stop()
        cluster.configure(SETTINGS)
        data = cluster.folder / "n1" / "data"
        shutil.rmtree(data, ignore_errors=True)
        # tarfile's filter is not in every Python 3.11.
        command = ["tar", "--no-same-owner", "-xf", folder / "data.tar.xz", "-C", data.parent]
        subprocess.run(command, check=True)
        (node,) = cluster.start().nodes
        expected = json.loads((folder / "expected.json").read_text())
        assert sorted(node.databases()) == sorted(expected)
        for name, answers in expected.items():
            assert [node.sql(name, question) for question in QUESTIONS] == answers
            node.sql(name, "INSERT INTO t VALUES (1000, 'new')", "DELETE FROM filler")
        assert not list((data / "aside").iterdir())
        cluster.kill(node)
        cluster.restart(node)
        for name, (rows, *_) in expected.items():
            assert node.sql(name, QUESTIONS[0]) == [*rows, [1000, "new"]]
            assert node.sql(name, "PRAGMA integrity_check") == [["ok"]]
        assert cluster.stop() == 0
        assert not cluster.leftovers()
    finally:
        cluster.clear()


CONFIGS = sorted((ROOT / "tests" / "fixtures").glob("config-v*/*.yml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_configuration_of_an_earlier_version(path):
    """It is taken as it is, and each setting means what it meant."""
    run(PROGRAM, "config", "check", path)
    shown = yaml.safe_load(run(PROGRAM, "config", "show", path).stdout)
    wrote = yaml.safe_load(path.read_text())
    assert wrote

    def kept(before, now, where):
        if isinstance(before, dict):
            for key, value in before.items():
                kept(value, now[key], f"{where}.{key}")
        else:
            assert now == before, where

    kept(wrote, shown, "")
