"""A disk that nobody else uses, so that what is written to it can be counted: a file system of its own in
a file, through a loop device. `write_bytes` of /proc/PID/io will not do: the kernel counts the whole
of a folio, up to some megabytes, when one page of it changes."""

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

from common import Skipped
from devcluster import run


class Disk:
    def __init__(self, device, path):
        self.name, self.path = Path(device).name, path

    def written(self):
        """Bytes that have reached it, the file system's own journal among them."""
        run("sync", "-f", self.path)
        return 512 * int(Path(f"/sys/block/{self.name}/stat").read_text().split()[6])


@contextmanager
def own_disk(folder, size):
    image, path = folder / "disk.image", folder / "disk"
    path.mkdir()
    with open(image, "wb") as file:
        os.truncate(file.fileno(), int(size))
    try:
        try:
            # All inodes at once: otherwise the kernel goes on making them for minutes, on this disk.
            options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
            run("mkfs.ext4", "-q", "-E", options, image)
            device = run("losetup", "--find", "--show", image).stdout.strip()
        except (AssertionError, FileNotFoundError) as problem:
            raise Skipped(f"there is no loop device to count on: {problem}") from None
        try:
            run("mount", device, path)
            try:
                yield Disk(device, path)
            finally:
                subprocess.run(["umount", path], check=False, timeout=60)
        finally:
            run("losetup", "--detach", device)
    finally:
        image.unlink()
        path.rmdir()
