"""The mesh's protocol, as much as an attacker needs of it (src/mesh/mod.rs, "One connection")."""

import ssl
import struct
import time

PURPOSES = ("rpc", "raft", "bulk")


def context(certificate=None, ca=None, purpose="rpc"):
    """TLS 1.3 with a certificate from this folder, or none; the node is believed who it says it is."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if ca is not None:
        made.load_verify_locations(ca)
        made.verify_mode = ssl.CERT_REQUIRED
    if certificate is not None:
        made.load_cert_chain(certificate / "node.crt", certificate / "node.key")
    if purpose is not None:
        made.set_alpn_protocols([f"litefs-py/1 {purpose}"])
    return made


def frame(body, length=None):
    """With a header that may lie."""
    return struct.pack(">I", len(body) if length is None else length) + body


def hello(me, to, version=1):
    return frame(struct.pack(">BQQ", version, me, to))


def admitted(stream):
    """What the node answers to a hello: its verdict, 0 for welcome; None when it only hangs up."""
    answer = read(stream, 6)
    return answer[5] if len(answer) == 6 else None


def read(stream, count):
    """So many bytes, or what came before the end."""
    got = b""
    try:
        while len(got) < count and (more := stream.recv(count - len(got))):
            got += more
    except (ssl.SSLError, ConnectionError):
        pass
    return got


def until_closed(stream, deadline):
    """Seconds until the node has hung up; fails if it has not by then (bounded-answer)."""
    began = time.monotonic()
    stream.settimeout(deadline)
    try:
        while stream.recv(65536):
            assert time.monotonic() - began < deadline, "it goes on talking"
    except (ssl.SSLError, ConnectionError):
        pass
    except TimeoutError:
        raise AssertionError(f"not closed within {deadline} s") from None
    return time.monotonic() - began
