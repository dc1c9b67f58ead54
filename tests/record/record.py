#!/usr/bin/env python3
"""Records what SQLite does to the files of one database, as fixtures for the tests of `capture`.

    python3 tests/record/record.py [scenario ...]

Needs strace. Every scenario of scenarios.py runs in a folder of its own; its writes, truncations,
removals and locks go to tests/fixtures/capture/<scenario>.ops. What the database must be after each
commit is not recorded: the test asks SQLite, on the same files.

Format: operations one after another. A byte says what, a byte which file (0 database, 1 journal,
2 WAL, 3 shm), then numbers in LEB128:
  W offset length pairs   a write; pairs of (length, bytes) and a length of zeros, to the end
  T length                a truncation
  U                       a removal
  L start length kind     a lock: 0 shared, 1 exclusive, 2 unlock (of a range on a file)
  X                       a process ended; its locks are free (the file is 0)
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "fixtures" / "capture"
FILES = {"a.db": 0, "a.db-journal": 1, "a.db-wal": 2, "a.db-shm": 3}
CALLS = "openat,close,pwrite64,ftruncate,unlink,fcntl,exit_group"
KINDS = {"F_RDLCK": 0, "F_WRLCK": 1, "F_UNLCK": 2}


def leb(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def pack(data):
    """Bytes as (length, bytes, zeros) again and again; runs of 16 zeros or more are not kept."""
    out, at = bytearray(), 0
    while at < len(data):
        zeros = re.compile(rb"\0{16,}").search(data, at)
        start, end = zeros.span() if zeros else (len(data), len(data))
        out += leb(start - at) + data[at:start] + leb(end - start)
        at = end
    return bytes(out)


def unescape(text):
    return bytes.fromhex(text.replace("\\x", ""))


def name(text):
    return FILES.get(os.path.basename(unescape(text).decode()))


def operations(trace):
    opened = {}
    for line in trace:
        pid, rest = line.rstrip("\n").split(None, 1)
        if "+++" in rest:
            if any(key[0] == pid for key in opened):
                yield b"X\0"
            opened = {key: file for key, file in opened.items() if key[0] != pid}
            continue
        call, _, arguments = rest.partition("(")
        arguments, _, result = arguments.rpartition(" = ")
        if result.startswith("-1"):
            continue
        texts = re.findall(r'"((?:\\x[0-9a-f]{2})*)"', arguments)
        first = arguments.split(",", 1)[0].strip(" )")
        file = opened.get((pid, first))
        if call == "openat" and name(texts[0]) is not None:
            opened[pid, result.split()[0]] = name(texts[0])
        elif call == "unlink" and name(texts[0]) is not None:
            yield bytes([ord("U"), name(texts[0])])
        elif file is None:
            continue
        elif call == "close":
            del opened[pid, first]
        elif call == "pwrite64" and file != 3:
            data = unescape(texts[0])
            length, offset = (int(n) for n in arguments.rstrip(" )").split(", ")[-2:])
            assert len(data) == length == int(result), "a write was cut"
            yield bytes([ord("W"), file]) + leb(offset) + leb(length) + pack(data)
        elif call == "ftruncate" and file != 3:
            yield bytes([ord("T"), file]) + leb(int(arguments.rstrip(" )").split(", ")[-1]))
        elif call == "fcntl" and "F_SETLK" in arguments:
            kind, start, length = re.search(
                r"l_type=(\w+), l_whence=SEEK_SET, l_start=(\d+), l_len=(\d+)", arguments
            ).groups()
            yield bytes([ord("L"), file]) + leb(int(start)) + leb(int(length)) + leb(KINDS[kind])


def record(scenario):
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        subprocess.run(
            ["strace", "-f", "-xx", "-s", "70000", "-e", f"trace={CALLS}", "-e", "signal=none"]
            + ["-o", trace, sys.executable, HERE / "scenarios.py", scenario],
            cwd=folder,
            check=True,
        )
        with open(trace) as lines:
            packed = b"".join(operations(lines))
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{scenario}.ops").write_bytes(packed)
    print(f"{scenario}: {len(packed)} bytes")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    import scenarios

    for wanted in sys.argv[1:] or scenarios.ALL:
        record(wanted)
