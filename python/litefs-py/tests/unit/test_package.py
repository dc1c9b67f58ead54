"""What an import loads, and where the program is looked for."""

import subprocess
import sys

import litefs_py
import pytest
from litefs_py import BinaryNotFound, find_program
from litefs_py.adapters import binary


def test_an_import_loads_little():
    code = "import litefs_py, sys; print([m for m in ('httpx', 'pydantic', 'yaml') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_every_name_is_there():
    assert all(getattr(litefs_py, name) is not None for name in litefs_py.__all__)
    with pytest.raises(AttributeError):
        litefs_py.nothing  # noqa: B018


def test_the_program_that_is_named(monkeypatch, tmp_path):
    program = tmp_path / "litefs-py"
    program.write_text("#!/bin/sh\n")
    monkeypatch.setenv("LITEFS_PY", str(program))
    with pytest.raises(BinaryNotFound, match="no program"):
        find_program()
    program.chmod(0o755)
    assert find_program() == program


def test_without_a_program_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("LITEFS_PY", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("litefs_py.adapters.binary._folders", lambda: [tmp_path])
    with pytest.raises(BinaryNotFound, match="build it with cargo"):
        find_program()
    from litefs_py.__main__ import main

    with pytest.raises(SystemExit, match="there is no litefs-py program"):
        main()


def test_litefs_of_the_wheel_or_of_the_machine(monkeypatch, tmp_path):
    monkeypatch.delenv("LITEFS_PY_TEST_LITEFS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(binary, "__file__", str(tmp_path / "litefs_py/adapters/binary.py"))
    with pytest.raises(BinaryNotFound, match="there is no LiteFS"):
        binary.find_litefs()
    for folder in ("path", "litefs_py/bin"):
        program = tmp_path / folder / "litefs"
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        # What came with the wheel goes with it.
        assert binary.find_litefs() == program
