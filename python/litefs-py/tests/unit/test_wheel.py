"""What platforms a program's wheel is for."""

import importlib.util
import struct
import sys
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="hatchling comes with the build")
spec = importlib.util.spec_from_file_location("hook", Path(__file__).parents[2] / "hatch_build.py")
hook = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hook)


def elf(machine, kinds, symbols=b""):
    """As much of a program as is looked at."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, machine)
    head = head.ljust(32, b"\0") + struct.pack("<Q", 64)
    head = head.ljust(54, b"\0") + struct.pack("<HH", 56, len(kinds))
    return (
        head.ljust(64, b"\0")
        + b"".join(struct.pack("<I", k).ljust(56, b"\0") for k in kinds)
        + symbols
    )


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (elf(62, [1, 2]), "manylinux_2_17_x86_64.manylinux2014_x86_64.musllinux_1_1_x86_64"),
        (elf(183, [1]), "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64"),
        (elf(62, [6, 3], b"GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0"), "manylinux_2_34_x86_64"),
        (elf(62, [3]), "linux_x86_64"),
    ],
)
def test_platforms(tmp_path, program, expected):
    (tmp_path / "p").write_bytes(program)
    assert hook.tag(tmp_path / "p") == expected


@pytest.mark.parametrize("program", [b"", b"#!/bin/sh", elf(8, [1])])
def test_no_program(tmp_path, program):
    (tmp_path / "p").write_bytes(program)
    with pytest.raises(RuntimeError):
        hook.tag(tmp_path / "p")


def test_this_interpreter():
    assert hook.is_dynamic(Path(sys.executable).resolve().read_bytes())
