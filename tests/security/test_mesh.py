"""no-open-door, bounded-answer: strangers at the mesh port, and members that misbehave.

Each is turned away within a known time and memory, and told of in the log once, while the cluster goes on
committing (the fixture `attack` sees to that).
"""

import socket
import ssl
import time

import meshclient as mesh
import pytest
from certificates import Authority
from conftest import LINES
from devcluster import run
from fenced import MESH, inside

# HANDSHAKE in src/mesh/handshake.rs is 2 s, PATIENCE in frame.rs 10 s; with room for a busy machine.
HANDSHAKE, FRAME = 6, 16


@pytest.fixture
def target(fenced):
    """The leader: whoever ends it does most harm."""
    return fenced.leader()


@pytest.fixture
def other(fenced, target):
    """A member that the attacker says it is, and where its certificate lies."""
    return next(node for node in fenced.nodes if node is not target)


def number(node):
    return int(node.name[1:])


def dial(fenced, node, context):
    stream = fenced.connect(node, MESH)
    return context.wrap_socket(stream, server_hostname=f"{node.name}.dev.litefs.internal")


def refused(fenced, node, context, hello):
    """Not let in: TLS ends it, or the answer to the hello does."""
    try:
        stream = dial(fenced, node, context)
        stream.sendall(hello)
    except (ssl.SSLError, ConnectionError):
        return
    assert mesh.admitted(stream) not in (0,), "it was let in"
    mesh.until_closed(stream, HANDSHAKE)


STRANGERS = [
    "no certificate", "foreign CA", "another cluster of the same names",
    "another cluster of the same CA", "no member", "another member's id", "itself", "ran out",
    "no purpose", "an unknown version", "for another node",
]  # fmt: skip


@pytest.mark.parametrize("who", STRANGERS)
def test_a_stranger(fenced, authority, attack, target, other, tmp_path, who):
    certificate, purpose = other.folder / "tls", "rpc"
    hello = mesh.hello(number(other), number(target))
    name = f"{other.name}.dev.litefs.internal"
    if who == "no certificate":
        certificate = None
    elif who == "foreign CA":
        certificate = Authority.new(tmp_path / "ca", "elsewhere").issue(tmp_path, name)
    elif who == "another cluster of the same names":
        made = Authority.new(tmp_path / "ca", "dev.litefs.internal")
        certificate = made.issue(tmp_path, name)
    elif who == "another cluster of the same CA":
        certificate = authority.issue(tmp_path, f"{other.name}.production.litefs.internal")
    elif who == "no member":
        certificate = authority.issue(tmp_path, "n9.dev.litefs.internal")
        hello = mesh.hello(9, number(target))
    elif who == "another member's id":
        third = next(node for node in fenced.nodes if node not in (target, other))
        hello = mesh.hello(number(third), number(target))
    elif who == "itself":
        hello = mesh.hello(number(target), number(target))
    elif who == "ran out":
        certificate = authority.issue(tmp_path, name, days=-1)
    elif who == "no purpose":
        purpose = None
    elif who == "an unknown version":
        hello = mesh.hello(number(other), number(target), version=7)
    elif who == "for another node":
        hello = mesh.hello(number(other), number(other))
    refused(fenced, target, mesh.context(certificate, purpose=purpose), hello)
    assert "refused a connection" in target.log(), "the log never told of any"


def test_a_member_is_let_in(fenced, target, other):
    """What the others are refused for is nothing else than what they lack."""
    ca = fenced.folder / "ca" / "ca.crt"
    for purpose in mesh.PURPOSES:
        stream = dial(fenced, target, mesh.context(other.folder / "tls", ca, purpose))
        stream.sendall(mesh.hello(number(other), number(target)))
        assert mesh.admitted(stream) == 0, purpose
        stream.close()


@pytest.mark.parametrize("text", [b"GET /cluster HTTP/1.1\r\nHost: n1\r\n\r\n", b"\x00" * 65536])
def test_plain_text(fenced, attack, target, text):
    stream = fenced.connect(target, MESH)
    try:
        stream.sendall(text)
    except ConnectionError:
        pass
    mesh.until_closed(stream, HANDSHAKE)


def test_the_log_names_who_was_refused_once(fenced, attack, target):
    """A hundred at once are one line, which counts the others in the next."""
    streams = [fenced.connect(target, MESH) for _ in range(100)]
    for stream in streams:
        stream.sendall(b"hello\r\n\r\n")
    for stream in streams:
        mesh.until_closed(stream, HANDSHAKE)
    told = [line for line in attack.lines(target) if "refused a connection" in line]
    assert len(told) <= 1, told
    assert "refused a connection" in target.log()


def test_a_half_open_connection(fenced, attack, target, other):
    """It connects and says nothing; it says nothing after TLS; it sends its first bytes one by one."""
    silent = fenced.connect(target, MESH)
    after_tls = dial(fenced, target, mesh.context(other.folder / "tls"))
    slow = fenced.connect(target, MESH)
    began = time.monotonic()
    for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03":
        try:
            slow.sendall(bytes([byte]))
        except ConnectionError:
            break
        if time.monotonic() - began > HANDSHAKE:
            break
        # A byte a while is what this is about.
        time.sleep(0.4)
    for stream in (silent, after_tls, slow):
        mesh.until_closed(stream, HANDSHAKE)


def test_thousands_of_half_open_handshakes_of_tcp(fenced, attack, target):
    """SYN and no more: the answers to it never reach the one who asked."""
    outside = fenced.namespace("out")
    rules = "add table inet f; add chain inet f in { type filter hook input priority 0; };"
    rules += "add rule inet f in tcp flags & (syn|ack) == syn|ack counter drop"
    run("ip", "netns", "exec", outside, "nft", rules)
    try:
        streams = inside(outside, lambda: [half_open(target.address) for _ in range(2000)])
        assert fenced.leader() is target
        for stream in streams:
            stream.close()
    finally:
        run("ip", "netns", "exec", outside, "nft", "flush ruleset")


def half_open(address):
    stream = socket.socket()
    stream.setblocking(False)
    stream.connect_ex((address, MESH))
    return stream


def test_thousands_of_silent_connections(fenced, attack, target):
    """Each costs a handshake's memory for two seconds, and no more than 512 of them at once."""
    streams = [fenced.connect(target, MESH) for _ in range(3000)]
    for stream in streams:
        mesh.until_closed(stream, HANDSHAKE)
        stream.close()


def test_a_giant_frame(fenced, attack, target, other):
    """From one that has a certificate: the header says as much as four bytes can, 4 GiB (10 GB cannot
    be said), and then comes what does. For each purpose; the log tells of it once."""
    for purpose in mesh.PURPOSES:
        stream = dial(fenced, target, mesh.context(other.folder / "tls", purpose=purpose))
        stream.sendall(mesh.hello(number(other), number(target)))
        assert mesh.admitted(stream) == 0
        sent = 0
        try:
            stream.sendall(mesh.frame(b"x" * 1000, length=0xFFFF_FFFF))
            while sent < 1 << 28:
                stream.sendall(b"x" * (1 << 20))
                sent += 1 << 20
        except (ssl.SSLError, ConnectionError):
            pass
        assert sent < 1 << 26, f"it took {sent >> 20} MiB"
        assert mesh.until_closed(stream, HANDSHAKE) < HANDSHAKE
    told = [line for line in attack.lines(target) if "ended a node's connection" in line]
    assert 1 <= len(told) <= LINES, told


def test_frames_that_are_announced_and_do_not_come(fenced, attack, target, other):
    """The largest that is allowed, from many connections, of each a byte now and then: memory follows
    what arrived, not what was announced, and the frame has its time."""
    made = {
        purpose: mesh.context(other.folder / "tls", purpose=purpose) for purpose in mesh.PURPOSES
    }
    streams = []
    for turn in range(60):
        stream = dial(fenced, target, made[mesh.PURPOSES[turn % 3]])
        stream.sendall(mesh.hello(number(other), number(target)))
        assert mesh.admitted(stream) == 0
        stream.sendall(mesh.frame(b"x", length=1000 if turn < 3 else 1 << 20))
        streams.append(stream)
    began = time.monotonic()
    closed = set()
    while len(closed) < 3 and time.monotonic() - began < FRAME:
        for stream in streams[:3]:
            if stream not in closed:
                try:
                    stream.sendall(b"x")
                except (ssl.SSLError, ConnectionError):
                    closed.add(stream)
        # A byte a while is what this is about.
        time.sleep(0.2)
    assert len(closed) == 3, "a frame may take as long as its sender likes"
    for stream in streams:
        mesh.until_closed(stream, FRAME)


@pytest.mark.parametrize("purpose", mesh.PURPOSES)
def test_rubbish_from_a_member(fenced, attack, target, other, purpose):
    """Whole frames that mean nothing: an answer to no question, an unknown kind, an empty one."""
    for body in (
        b"",
        b"\xff",
        b"\x02" + bytes(8) + b"answer",
        bytes(range(256)) * 64,
        b"\x01" * 10,
    ):
        stream = dial(fenced, target, mesh.context(other.folder / "tls", purpose=purpose))
        stream.sendall(mesh.hello(number(other), number(target)))
        assert mesh.admitted(stream) == 0
        try:
            stream.sendall(mesh.frame(body))
            stream.unwrap()
        except (OSError, ssl.SSLError):
            pass
        stream.close()
