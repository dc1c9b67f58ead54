"""Certificates renew by themselves, and the CA is rotated while the cluster works."""

import hashlib
import ssl
import time

import pytest
from cluster_fixtures import PROGRAM
from devcluster import Writer, wait_for
from machines import NO_PERMISSION, Machine, taken_down, token


@pytest.fixture
def two(tmp_path):
    made = [Machine(tmp_path, name, PROGRAM) for name in ("n1", "n2", "n3")]
    with taken_down(made):
        yield made


def serial(machine):
    pem = (machine.folder / "tls" / "node.crt").read_text()
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def test_certificates_are_renewed_and_the_ca_is_rotated_under_load(two, tmp_path):
    first, second, third = two
    first.init()
    renew(first)
    first.start()
    assert second.join(token(first), first).returncode == 0
    renew(second)
    second.start()
    wait_for(lambda: first.members().get("n2") == "voter", 30, "its vote")
    first.sql("app.db", "CREATE TABLE log(who TEXT, k INTEGER)")
    writer = Writer(second.db("app.db"), "w", tmp_path / "log")
    before = serial(second)
    wait_for(lambda: serial(second) != before, 60, "a renewal")
    old = token(first)
    ca = (first.folder / "tls" / "ca.crt").read_text()
    assert "spread" in first.ask_cli("ca", "rotate").stdout
    for node in (first, second):
        trusted = node.folder / "tls" / "ca.crt"
        wait_for(lambda t=trusted: ca not in t.read_text(), 60, "the old CA to go")
        assert trusted.read_text().count("BEGIN CERTIFICATE") == 1
    # A node that starts now has the new files, and the others know it.
    second.stop()
    moment = time.time()
    second.start()
    wait_for(lambda: first.is_ready() and second.is_ready(), 30, "both")
    third_done = third.join(old, first)
    assert third_done.returncode == NO_PERMISSION and "rotated" in third_done.stderr
    assert third.join(token(first), first).returncode == 0
    third.start()
    wait_for(lambda: first.members().get("n3") == "voter", 30, "its vote")
    writer.stop()
    assert moment and len(writer.acknowledged()) > 50
    first.barrier()
    rows = {k for (k,) in first.sql("app.db", "SELECT k FROM log")}
    assert writer.acknowledged() <= rows


def renew(machine):
    """Certificates that it issues hold for half a minute, so that they are renewed after twenty seconds."""
    text = machine.config.read_text()
    assert "  tls:\n" in text, text
    machine.config.write_text(text.replace("  tls:\n", "  tls:\n    validity: 30s\n", 1))
