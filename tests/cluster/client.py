"""Applications on the mount, each a process of its own: a daemon that hangs must not hang the tests.

    client.py serve DATABASE TIMEOUT            one request and one answer a line, as JSON
    client.py write DATABASE TIMEOUT NAME LOG PAUSE STATEMENT
                                                repeats the statement, with :who and :k, until SIGTERM

Nothing but Python's own sqlite3: a stock client. TIMEOUT is SQLite's busy timeout, in seconds.
"""

import hashlib
import json
import signal
import sqlite3
import sys
import time


def connect(path, timeout):
    """In autocommit mode, so that BEGIN and COMMIT are where the tests write them."""
    return sqlite3.connect(path, timeout=float(timeout), isolation_level=None)


def describe(error):
    """Python 3.10 has no `sqlite_errorname`; the message tells the same."""
    name = getattr(error, "sqlite_errorname", None)
    return {"error": str(error), "name": name or str(error)}


def crc64_table():
    """CRC-64/GO-ISO, reflected polynomial 0xD8 << 56."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0xD800000000000000 if byte & 1 else 0)
        table.append(byte)
    return table


def ltx_checksum(image):
    """Of a whole database image, as the LTX specification defines it (no lock page below 1 GiB)."""
    table = crc64_table()
    size = int.from_bytes(image[16:18], "big")
    size = 65536 if size == 1 else size
    total = 0
    for number in range(len(image) // size):
        data = (number + 1).to_bytes(4, "big") + image[number * size : (number + 1) * size]
        crc = 0xFFFFFFFFFFFFFFFF
        for byte in data:
            crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
        total ^= crc ^ 0xFFFFFFFFFFFFFFFF
    return total | 1 << 63


def content_hash(connection):
    """Of all that a reader sees: schema and rows, independent of where the pages lie."""
    digest = hashlib.sha256()
    for line in connection.iterdump():
        digest.update(line.encode())
    return digest.hexdigest()


def answer(connection, request):
    if "hash" in request:
        return {"rows": content_hash(connection)}
    if "checksum" in request:
        return {"rows": ltx_checksum(connection.serialize())}
    if "backup" in request:
        with sqlite3.connect(request["backup"]) as target:
            connection.backup(target)
        return {"rows": None}
    rows = connection.execute(request["sql"], request.get("args", ())).fetchall()
    return {"rows": rows}


def serve(path, timeout):
    connection = connect(path, timeout)
    for line in sys.stdin:
        start = time.monotonic()
        try:
            said = answer(connection, json.loads(line))
        except sqlite3.Error as error:
            said = describe(error)
        said["seconds"] = time.monotonic() - start
        print(json.dumps(said, default=bytes.hex), flush=True)


def write(path, timeout, who, log, pause, statement):
    """Says in LOG what it does: `? k` before a statement, `+ k` when it returned, `- k` and why when it
    failed; each with the time. What was written there survives a SIGKILL of this process."""
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    connection = connect(path, timeout)
    k = 0
    with open(log, "w", buffering=1) as out:
        while not stop:
            k += 1
            out.write(f"? {k} {time.time()}\n")
            try:
                connection.execute(statement, {"who": who, "k": k})
                out.write(f"+ {k} {time.time()}\n")
            except sqlite3.Error as error:
                said = describe(error)
                out.write(f"- {k} {time.time()} {said['name']} {said['error']}\n")
            time.sleep(float(pause))


if __name__ == "__main__":
    {"serve": serve, "write": write}[sys.argv[1]](*sys.argv[2:])
