"""Certificates of all kinds, made with openssl: of the cluster's CA, and of others."""

import subprocess
from pathlib import Path


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)


class Authority:
    """A CA in a folder: `ca.crt` and `ca.key`, as `litefs-py` writes them."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def new(cls, folder: Path, name: str) -> "Authority":
        folder.mkdir(parents=True)
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", folder / "ca.key", "-out", folder / "ca.crt", "-days", "10",
            "-subj", f"/CN={name}",
            "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
        return cls(folder)

    def issue(self, folder: Path, name: str, days: int = 10) -> Path:
        """A certificate and key of this DNS name, in a folder; `days` below 0: it ran out."""
        folder.mkdir(parents=True, exist_ok=True)
        request, extensions = folder / "request", folder / "extensions"
        openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", folder / "node.key", "-out", request, "-subj", f"/CN={name}",
        )  # fmt: skip
        extensions.write_text(
            f"subjectAltName=DNS:{name}\nextendedKeyUsage=serverAuth,clientAuth\n"
            "basicConstraints=critical,CA:FALSE\n"
        )
        validity = ["-days", days]
        openssl(
            "x509", "-req", "-in", request, "-CA", self.folder / "ca.crt",
            "-CAkey", self.folder / "ca.key", "-CAcreateserial", "-CAserial", folder / "serial",
            "-extfile", extensions, "-out", folder / "node.crt", *validity,
        )  # fmt: skip
        return folder
