"""no-open-door: what listens where, seen from the outside.

Every TCP port of a node is tried from another network namespace, and compared with what the kernel says
listens there. Off loopback it is the mesh, which wants a certificate, and the API, if it is so configured.
"""

import errno
import os
import selectors
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from fenced import API, MESH, TOKEN, inside

HEALTH = ["/primary", "/replica", "/read-only", "/health", "/liveness", "/readiness"]
DATA = [("GET", path) for path in ("/cluster", "/databases", "/metrics")]
DATA += [("POST", "/barrier"), ("POST", "/switchover")]
AT_ONCE = 2000


def open_ports(address):
    """Of all 65,535."""
    found, left = [], iter(range(1, 65536))
    selector = selectors.DefaultSelector()
    waiting = 0
    while True:
        while waiting < AT_ONCE and (port := next(left, None)) is not None:
            stream = socket.socket()
            stream.setblocking(False)
            code = stream.connect_ex((address, port))
            if code == errno.EINPROGRESS:
                selector.register(stream, selectors.EVENT_WRITE, port)
                waiting += 1
                continue
            if code == 0:
                found.append(port)
            stream.close()
        if not waiting:
            return found
        ready = selector.select(10)
        assert ready, f"{waiting} ports of {address} do not answer at all"
        for key, _ in ready:
            if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                found.append(key.data)
            selector.unregister(key.fileobj)
            key.fileobj.close()
            waiting -= 1


def kernel_says(node, table, state):
    """(address, port) of the sockets in this state, in the node's namespace."""
    lines = Path(f"/proc/{node.pid}/net/{table}").read_text().splitlines()[1:]
    places = [line.split()[1] for line in lines if state in (None, line.split()[3])]
    return {(place.split(":")[0], int(place.split(":")[1], 16)) for place in places}


@pytest.mark.parametrize(
    "number,expected", [(0, [MESH, API]), (2, [MESH])], ids=["open", "default"]
)
def test_the_ports(fenced, number, expected):
    node = fenced.nodes[number]
    found = inside(fenced.namespace("out"), lambda: open_ports(node.address))
    assert sorted(found) == expected
    listening = kernel_says(node, "tcp", "0A") | kernel_says(node, "tcp6", "0A")
    assert {port for _, port in listening} == {MESH, API}
    for table in ("udp", "udp6", "udplite", "raw", "raw6"):
        assert not kernel_says(node, table, None), table


def test_health_is_for_all_and_data_is_not(fenced):
    node = fenced.nodes[0]
    for path in HEALTH:
        for method in ("GET", "HEAD", "OPTIONS"):
            code, body = fenced.http(node, path, method)
            assert code in (200, 503), path
            assert not body or set(body) <= {"state", "role", "lag_ms", "reason"}, body
    wrong = [None, "", "x" * len(TOKEN), TOKEN[:-1], TOKEN + "x", "x" * 100_000]
    for method, path in DATA:
        for token in wrong:
            code, body = fenced.http(node, path, method, token)
            # The longest is more than a head may have.
            assert code in (401, 431) or (code == 0 and token and len(token) > 10_000), (path, code)
            assert "app.db" not in str(body)
    for path in (
        "/",
        "/databases/",
        "//databases",
        "/Databases",
        "/databases%2f",
        "/admin",
        "/debug",
    ):
        code, body = fenced.http(node, path)
        assert code in (401, 404), (path, code, body)
    assert fenced.http(node, "/databases", token=TOKEN)[0] == 200


def test_a_web_page_gets_nothing(fenced):
    """A browser on the operator's machine, made to ask by a stranger's page: no header of the API
    allows another origin."""
    node = fenced.nodes[0]
    for path in ("/health", "/cluster"):
        stream = fenced.connect(node, API)
        request = f"GET {path} HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n"
        stream.sendall(f"{request}Connection: close\r\n\r\n".encode())
        answer = b""
        while more := stream.recv(65536):
            answer += more
        assert b"access-control" not in answer.lower()
        stream.close()


def test_the_socket_is_for_its_group(fenced):
    for node in fenced.nodes:
        path = node.folder / "api.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert path.stat().st_uid == os.geteuid()
    script = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
    for folder in path.parents:
        if folder.stat().st_mode & 0o001 == 0:
            # Nobody else comes as far as the socket; then its mode is tried from its folder.
            break
    else:
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", script],
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert "PermissionError" in done.stderr, done


def test_keys_are_private(fenced):
    for key in [fenced.folder / "ca/ca.key", *fenced.folder.glob("n*/tls/node.key")]:
        assert stat.S_IMODE(key.stat().st_mode) & 0o077 == 0, key
