#!/usr/bin/env python3
"""Makes a container image of the static program: target/packages/litefs-py_VERSION_ARCH.oci.tar.

An OCI image layout in a tar (github.com/opencontainers/image-spec, image-layout.md), for `podman load`,
`skopeo copy oci-archive:…`, `docker load` (25 and later). One layer, nothing in it but the program and the
folders that it uses. No container daemon and no Nix; standard library only.
"""

import gzip
import hashlib
import io
import json
import tarfile
from datetime import UTC, datetime

from common import (
    BUILT,
    LEVEL,
    architecture,
    made_whole,
    named,
    static_program,
    time_of_the_source,
    version,
)

ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/usr/bin/litefs-py\nnobody:x:65534:65534:nobody:/:/\n",
    "etc/group": "root:x:0:\nlitefs-py:x:990:\nnogroup:x:65534:\n",
}
FOLDERS = {
    "etc": 0o755, "etc/litefs-py": 0o750, "litefs": 0o755, "proc": 0o755, "dev": 0o755, "sys": 0o755,
    "run": 0o755, "run/litefs-py": 0o750, "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755, "var": 0o755,
    "var/lib": 0o755, "var/lib/litefs-py": 0o700,
}  # fmt: skip
SECOND = 1_000_000_000  # in nanoseconds, as health checks are configured

MEDIA = "application/vnd.oci.image"


def entry(name, kind, mode, seconds, size=0):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime, info.size = kind, mode, seconds, size
    return info


def layer(program, seconds):
    """The root file system, as a tar."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, mode in FOLDERS.items():
            tar.addfile(entry(name, tarfile.DIRTYPE, mode, seconds))
        files = {name: (text.encode(), 0o644) for name, text in ACCOUNTS.items()}
        files["usr/bin/litefs-py"] = (program.read_bytes(), 0o755)
        for name, (data, mode) in files.items():
            info = entry(name, tarfile.REGTYPE, mode, seconds, len(data))
            tar.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def configuration(diff_id, created):
    return {
        "created": created,
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": ["/usr/bin/litefs-py"],
            "Cmd": ["node"],
            "Env": ["PATH=/usr/bin"],
            "WorkingDir": "/",
            "ExposedPorts": {"4321/tcp": {}, "8008/tcp": {}},
            "Volumes": {"/var/lib/litefs-py": {}},
            "StopSignal": "SIGTERM",
            "Labels": labels(created),
            # Docker's own addition to the specification; Kubernetes asks /readiness instead.
            "Healthcheck": {
                "Test": ["CMD", "/usr/bin/litefs-py", "status"],
                "Interval": 10 * SECOND,
                "Timeout": 5 * SECOND,
                "StartPeriod": 30 * SECOND,
                "Retries": 3,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": created, "created_by": "packaging/oci.py"}],
    }


def labels(created):
    name = "org.opencontainers.image"
    return {
        f"{name}.title": "litefs-py",
        f"{name}.version": version(),
        f"{name}.licenses": "MIT",
        f"{name}.created": created,
    }


class Layout:
    """The blobs of an image, by their digests."""

    def __init__(self):
        self.blobs = {}

    def add(self, media, data):
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    def add_json(self, media, value):
        return self.add(media, json.dumps(value, sort_keys=True).encode())

    def write(self, path, index, seconds):
        files = {
            "oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode(),
            "index.json": json.dumps(index, sort_keys=True).encode(),
            **{f"blobs/sha256/{digest}": data for digest, data in sorted(self.blobs.items())},
        }
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for folder in ("blobs", "blobs/sha256"):
                tar.addfile(entry(folder, tarfile.DIRTYPE, 0o755, seconds))
            for name, data in files.items():
                info = entry(name, tarfile.REGTYPE, 0o644, seconds, len(data))
                tar.addfile(info, io.BytesIO(data))


def make():
    seconds = time_of_the_source()
    created = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    files = layer(static_program(), seconds)
    diff_id = f"sha256:{hashlib.sha256(files).hexdigest()}"
    layout = Layout()
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA}.manifest.v1+json",
        "config": layout.add_json(f"{MEDIA}.config.v1+json", configuration(diff_id, created)),
        "layers": [layout.add(f"{MEDIA}.layer.v1.tar+gzip", gzip.compress(files, LEVEL, mtime=0))],
        "annotations": labels(created),
    }
    described = layout.add_json(manifest["mediaType"], manifest)
    described["platform"] = {"architecture": architecture(), "os": "linux"}
    described["annotations"] = {"org.opencontainers.image.ref.name": version()}
    index = {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA}.index.v1+json",
        "manifests": [described],
    }
    image = BUILT / f"litefs-py_{version()}_{architecture()}.oci.tar"
    with made_whole(image) as part:
        layout.write(part, index, seconds)
    return image


def main():
    image = make()
    print(f"{named(image)}  {image.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
