#!/usr/bin/env python3
"""Makes a machine's disk of the Debian package: target/packages/litefs-py_VERSION_ARCH.qcow2.

    packaging/qcow2.py [--package FILE]     default: the newest in target/packages

Debian by mmdebstrap, with the package and what is in images/debian and images/machine; GRUB for BIOS and for
UEFI. No loop device and no mount: the file system is made of a folder. Wants root (for the files' owners),
mmdebstrap, e2fsprogs, fdisk, mtools, dosfstools, GRUB's images (grub-pc-bin, grub-efi-amd64-bin, grub-common),
qemu-utils; x86-64.
Standard library only.
"""

import argparse
import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from common import BUILT, ROOT, architecture, made_whole, named, newest, time_of_the_source

FILES = ROOT / "images" / "debian"
# Programs that a machine of NixOS has, too (images/appliance.nix).
PROGRAMS = ROOT / "images" / "machine"
# A Debian is kept, so that another package needs no other download.
KEPT = ROOT / "target" / "qcow2"
SUITE = "trixie"
INCLUDED = [
    "systemd", "systemd-sysv", "systemd-resolved", "systemd-timesyncd", "dbus", "udev", "kmod", "initramfs-tools",
    "linux-image-cloud-amd64", "cloud-init", "cloud-guest-utils", "fdisk", "e2fsprogs", "openssh-server", "sudo",
    "nftables", "iproute2", "ca-certificates", "curl", "sqlite3", "less", "nano",
]  # fmt: skip
ENABLED = [
    "systemd-networkd.service", "systemd-resolved.service", "nftables.service", "litefs-py-first-boot.service",
    "litefs-py-console.timer",
]  # fmt: skip
# Of a machine, not of an image; each is made at the first boot.
IDENTITY = [
    "etc/ssh/ssh_host_*",
    "etc/hostname",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
]
UNUSED = [
    "var/lib/apt/lists/*",
    "var/cache/apt/*",
    "var/log/*.log",
    "var/log/apt/*",
    "usr/share/doc-base/*",
]
LABEL = "litefs-py"

SECTOR = 512
MIB = 1 << 20
# The first partition is GRUB's, for BIOS; the second UEFI's; the last grows with the disk.
BIOS, ESP, FILE_SYSTEM, SIZE = 1 * MIB, 2 * MIB, 18 * MIB, 2048 * MIB
MODULES = [
    "part_gpt",
    "ext2",
    "search",
    "search_label",
    "normal",
    "linux",
    "configfile",
    "serial",
    "echo",
    "test",
]
# First of boot.img: where GRUB itself begins; and the check of the boot drive that grub-install takes out of the
# image of a hard disk. Last of the first sector of core.img: where the rest of it is.
KERNEL_SECTOR, DRIVE_CHECK, REST = 0x5C, 0x66, SECTOR - 12


def run(*command, **options):
    subprocess.run([str(part) for part in command], check=True, **options)


def quiet(*command, **options):
    """What it says only matters if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} failed ({done.returncode}): {done.stdout[-2000:]}")
    return done.stdout


def debian():
    """A Debian that has all but the package."""
    kind = hashlib.sha256(f"{SUITE} {INCLUDED}".encode()).hexdigest()[:12]
    folder = KEPT / f"{SUITE}-{kind}"
    if not folder.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        print(f"making a Debian in {named(folder)}, once; some minutes", flush=True)
        new = folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        quiet(
            "mmdebstrap", "--variant=minbase", "--components=main", f"--include={','.join(INCLUDED)}",
            "--aptopt=APT::Install-Recommends false", SUITE, new,
        )  # fmt: skip
        new.rename(folder)
    return folder


def fill(tree, package):
    """The package, our files, and nothing that only one machine should have."""
    run("cp", "-a", f"{debian()}/.", tree)
    inside = tree / "root" / package.name
    shutil.copyfile(package, inside)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
    quiet("chroot", tree, "dpkg", "--install", f"/root/{package.name}", env=environment)
    # The package before an upgrade is kept beside it, for the way back.
    kept = tree / "var/lib/litefs-py-packages"
    kept.mkdir()
    inside.rename(kept / package.name)
    placed = [(source, source.relative_to(FILES)) for source in sorted(FILES.rglob("*"))]
    placed += [(source, f"usr/lib/litefs-py/{source.name}") for source in PROGRAMS.iterdir()]
    for source, path in placed:
        if source.is_file():
            target = tree / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
    (tree / "etc/nftables.d").mkdir()
    (tree / "etc/issue.d").mkdir(exist_ok=True)
    (tree / "etc/issue.d/litefs-py.issue").symlink_to("/run/litefs-py.issue")
    resolver = tree / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    resolver.symlink_to("/run/systemd/resolve/stub-resolv.conf")
    quiet("systemctl", f"--root={tree}", "enable", *ENABLED)
    for pattern in IDENTITY + UNUSED:
        for path in tree.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    # An empty one: systemd makes it at the first boot, and knows by it that it is the first.
    (tree / "etc/machine-id").write_text("uninitialized\n")


def grub(platform, name, folder, *modules):
    """GRUB itself, which finds its configuration by the file system's label."""
    early, made = folder / "early.cfg", folder / name
    early.write_text(f"search --label --set=root {LABEL}\nconfigfile /boot/grub/grub.cfg\n")
    quiet(
        "grub-mkimage", "--format", platform, "--prefix", "/boot/grub", "--config", early,
        "--output", made, *MODULES, *modules,
    )  # fmt: skip
    return made


def bios(folder):
    """What grub-bios-setup would write: the boot record's code, and the image for GRUB's partition."""
    first = BIOS // SECTOR
    record = bytearray(Path("/usr/lib/grub/i386-pc/boot.img").read_bytes()[:440])
    struct.pack_into("<Q", record, KERNEL_SECTOR, first)
    record[DRIVE_CHECK : DRIVE_CHECK + 2] = b"\x90\x90"
    core = bytearray(grub("i386-pc", "core.img", folder, "biosdisk").read_bytes())
    struct.pack_into("<Q", core, REST, first + 1)
    if len(core) > ESP - BIOS:
        raise SystemExit(f"GRUB is too large for its partition: {len(core)} bytes")
    return bytes(record), bytes(core)


def esp(folder):
    """The partition that UEFI reads."""
    image = folder / "esp"
    image.touch()
    os.truncate(image, FILE_SYSTEM - ESP)
    quiet("mkfs.vfat", "-n", "ESP", image)
    loader = grub("x86_64-efi", "BOOTX64.EFI", folder, "fat", "efi_gop")
    quiet("mmd", "-i", image, "::EFI", "::EFI/BOOT")
    quiet("mcopy", "-i", image, loader, "::EFI/BOOT/BOOTX64.EFI")
    return image


def partitions(disk):
    def line(start, end, kind):
        return f"start={start // SECTOR}, size={(end - start) // SECTOR}, type={kind}\n"

    table = "label: gpt\n"
    table += line(BIOS, ESP, "21686148-6449-6E6F-744E-656564454649")
    table += line(ESP, FILE_SYSTEM, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
    # The last MiB is for the table's copy.
    table += line(FILE_SYSTEM, SIZE - MIB, "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709")
    quiet("sfdisk", disk, input=table)


def put(source, disk, at):
    """Its holes stay holes."""
    quiet("dd", f"if={source}", f"of={disk}", "bs=1M", f"seek={at // MIB}", "conv=notrunc,sparse")


def make_disk(tree, folder, seconds):
    disk, root = folder / "disk", folder / "root"
    for image, size in ((disk, SIZE), (root, SIZE - MIB - FILE_SYSTEM)):
        image.touch()
        os.truncate(image, size)
    # What GRUB 2.06 cannot read is left out.
    quiet(
        "mkfs.ext4", "-q", "-L", LABEL, "-m", "1", "-O", "^metadata_csum_seed,^orphan_file", "-d", tree, root,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(seconds)},
    )  # fmt: skip
    partitions(disk)
    put(root, disk, FILE_SYSTEM)
    put(esp(folder), disk, ESP)
    record, core = bios(folder)
    with open(disk, "r+b") as file:
        file.write(record)
        file.seek(BIOS)
        file.write(core)
    return disk


def make(package):
    image = BUILT / f"{package.name.removesuffix('.deb')}.qcow2"
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KEPT) as name, made_whole(image) as part:
        folder = Path(name)
        tree = folder / "tree"
        tree.mkdir()
        fill(tree, package)
        disk = make_disk(tree, folder, time_of_the_source())
        quiet("qemu-img", "convert", "-c", "-O", "qcow2", disk, part)
    return image


def missing():
    """What is not on this machine and is needed; empty when all is there."""
    if architecture() != "amd64":
        return "an x86-64"
    if os.geteuid() != 0:
        return "root"
    programs = [
        "mmdebstrap",
        "mkfs.ext4",
        "mkfs.vfat",
        "sfdisk",
        "mcopy",
        "grub-mkimage",
        "qemu-img",
    ]
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lacking = [program for program in programs if not shutil.which(program, path=path)]
    folders = [f"/usr/lib/grub/{kind}" for kind in ("i386-pc", "x86_64-efi")]
    return ", ".join(lacking + [folder for folder in folders if not Path(folder).exists()])


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--package", type=Path, help="default: the newest in target/packages")
    arguments.add_argument(
        "--missing", action="store_true", help="print what it lacks here; make nothing"
    )
    wanted = arguments.parse_args()
    if wanted.missing:
        print(missing())
        return
    package = wanted.package or newest("deb")
    if package is None:
        raise SystemExit("there is no package: make deb")
    if lacking := missing():
        raise SystemExit(f"a disk image needs {lacking}: scripts/setup.sh images")
    image = make(package)
    print(f"{named(image)}  {image.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
