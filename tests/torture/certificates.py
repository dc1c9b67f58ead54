"""The cluster's CA and the nodes' certificates, by the commands of README.md."""

import subprocess
from pathlib import Path

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def openssl(*arguments):
    done = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    if done.returncode:
        raise OSError(f"openssl {arguments[0]}: {done.stderr.strip()}")


def make_ca(folder, cluster):
    folder.mkdir(parents=True, exist_ok=True)
    host = f"{cluster}.litefs.internal"
    # By its DNS name the cluster knows the CA for its own, when it takes over the key.
    subject = ["-days", "3650", "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"]
    files = ["-keyout", folder / "ca.key", "-out", folder / "ca.crt"]
    openssl("req", "-x509", *CURVE, *subject, *files)


def make_node(ca, folder, cluster, name):
    """`ca.crt`, `node.crt` and `node.key` of one node."""
    folder.mkdir(parents=True, exist_ok=True)
    host = f"{name}.{cluster}.litefs.internal"
    request, extensions = folder / "node.csr", folder / "node.ext"
    key = folder / "node.key"
    openssl("req", "-new", *CURVE, "-subj", f"/CN={host}", "-keyout", key, "-out", request)
    extensions.write_text(f"subjectAltName=DNS:{host}\nextendedKeyUsage=serverAuth,clientAuth\n")
    signing = ["-CA", ca / "ca.crt", "-CAkey", ca / "ca.key", "-CAcreateserial", "-days", "730"]
    result = ["-extfile", extensions, "-out", folder / "node.crt"]
    openssl("x509", "-req", "-in", request, *signing, *result)
    key.chmod(0o600)
    (folder / "ca.crt").write_bytes(Path(ca / "ca.crt").read_bytes())
    request.unlink()
    extensions.unlink()
