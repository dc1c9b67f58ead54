"""One machine of QEMU: the same to a scenario as a container (nspawn/container.py). eth0 is the way in, by SSH;
eth1 the network between the machines. Cloud-init finds who it is on a second disk (NoCloud)."""

import os
import shlex
import socket
import subprocess
from pathlib import Path

from nspawn import network
from nspawn.container import Container
from nspawn.place import CGROUPS, remove_tree

# The image has 2 GiB: it grows at the first boot.
DISK = "4G"
MEMORY = "1024"
# Emulation works everywhere; a KVM within a virtual machine often only seems to.
ACCELERATOR = "kvm" if os.environ.get("LITEFS_PY_TEST_KVM") == "1" else "tcg"
# Debian's ovmf. Without it a machine starts by its BIOS.
UEFI = "/usr/share/ovmf/OVMF.fd"
# Of one command's way in, beyond what the command takes.
WAY_IN = 30


def missing(image):
    """Why none can be started; nothing when one can."""
    from shutil import which

    for program, package in (
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("qemu-img", "qemu-utils"),
        ("ssh-keygen", "openssh-client"),
        ("mcopy", "mtools"),
    ):
        if not which(program):
            return f"there is no {program} (Debian: {package})"
    if not Path(UEFI).exists():
        return f"there is no {UEFI} (Debian: ovmf)"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    if image is None:
        return "there is no disk image: make qcow2"
    return None


def quiet(*command, **options):
    subprocess.run([str(part) for part in command], check=True, capture_output=True, **options)


class Guest:
    # Under emulation, on a machine that has more to do.
    BOOT = 900

    def __init__(self, name, number, folder, image, cable, hosts, group, log):
        self.name, self.number, self.folder = name, number, Path(folder)
        self.cable, self.hosts, self.log = cable, hosts, log
        self.port = 2200 + number
        self.group = CGROUPS / group / name
        self.group.mkdir(parents=True)
        self.folder.mkdir(parents=True)
        self.disk, self.key = self.folder / "disk", self.folder / "key"
        quiet("qemu-img", "create", "-f", "qcow2", "-b", image, "-F", "qcow2", self.disk, DISK)
        quiet("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key)
        # What /etc/litefs-py/first-boot is to hold; nothing: it is not there.
        self.first_boot = None
        self.firmware = []
        self.process, self.init = None, None

    def by_uefi(self):
        """From the next start on."""
        self.firmware = ["-bios", UEFI]

    def user_data(self):
        key = self.key.with_suffix(".pub").read_text().strip()
        files = [("/root/hosts", "0644", self.hosts)]
        if self.first_boot:
            files.append(("/etc/litefs-py/first-boot", "0600", self.first_boot))
        lines = ["#cloud-config", "disable_root: false", "users:", "  - name: root"]
        lines += [f"    ssh_authorized_keys: ['{key}']", "write_files:"]
        for path, mode, text in files:
            lines += [f"  - path: {path}", f"    permissions: '{mode}'", "    content: |"]
            lines += [f"      {line}" for line in text.splitlines()]
        return "\n".join([*lines, "runcmd: ['cat /root/hosts >> /etc/hosts']"]) + "\n"

    def network(self):
        mac = self.mac
        return f"""version: 2
ethernets:
  eth0: {{match: {{macaddress: "{mac(0)}"}}, set-name: eth0, dhcp4: true}}
  eth1: {{match: {{macaddress: "{mac(1)}"}}, set-name: eth1, addresses: [{self.cable.address}/24]}}
"""

    def mac(self, card):
        return f"52:54:00:12:{card:02x}:{self.number:02x}"

    def write_seed(self):
        """What a cloud tells its machine."""
        seed = self.folder / "seed"
        seed.unlink(missing_ok=True)
        quiet("mkfs.vfat", "-C", "-n", "CIDATA", seed, "1024", env=with_sbin())
        told = {
            "user-data": self.user_data(),
            "meta-data": f"instance-id: {self.name}\nlocal-hostname: {self.name}\n",
            "network-config": self.network(),
        }
        for name, text in told.items():
            (self.folder / name).write_text(text)
            quiet("mcopy", "-i", seed, self.folder / name, f"::{name}")
        return seed

    def start(self):
        seed = self.write_seed()
        way_in = f"user,id=in,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22"
        cable = f"tap,id=cable,ifname={self.cable.outer},script=no,downscript=no"
        self.process = subprocess.Popen(
            [
                "qemu-system-x86_64", "-name", self.name, "-machine", "q35",
                "-accel", ACCELERATOR, "-cpu", "max", "-m", MEMORY, *self.firmware,
                "-display", "none", "-monitor", f"unix:{self.folder / 'monitor'},server,nowait",
                "-chardev", f"file,id=console,path={self.log.name},append=on", "-serial", "chardev:console",
                "-drive", f"file={self.disk},if=virtio,format=qcow2",
                "-drive", f"file={seed},if=virtio,format=raw,readonly=on",
                "-netdev", way_in, "-device", f"virtio-net-pci,netdev=in,mac={self.mac(0)}",
                "-netdev", cable, "-device", f"virtio-net-pci,netdev=cable,mac={self.mac(1)}",
                "-device", "virtio-rng-pci",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            preexec_fn=Container.join(self.group),
        )  # fmt: skip
        self.init = None

    def is_up(self):
        return self.process is not None and self.process.poll() is None

    def find_init(self):
        """Whether it lets us in."""
        if self.init is None and self.is_up():
            self.init = "ssh" if self.run("true", 5)[0] == 0 else None
        return self.init

    def run(self, command, timeout):
        """(exit code, standard output) of a command of bash inside."""
        process = subprocess.run(
            [
                "ssh", "-F", "none", "-i", str(self.key), "-p", str(self.port), "-o", "BatchMode=yes",
                "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
                "-o", f"ConnectTimeout={WAY_IN}", "root@127.0.0.1", f"bash -c {shlex.quote(command)}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            errors="replace",
            timeout=timeout + WAY_IN,
        )  # fmt: skip
        return process.returncode, process.stdout

    def monitor(self, command):
        """Of QEMU's monitor, in its own words."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(10)
            line.connect(str(self.folder / "monitor"))
            self.prompt(line)
            line.sendall(f"{command}\n".encode())
            return self.prompt(line)

    @staticmethod
    def prompt(line):
        told = b""
        while not told.rstrip().endswith(b"(qemu)"):
            told += line.recv(4096)
        return told.decode(errors="replace")

    def freeze(self, frozen):
        self.monitor("stop" if frozen else "cont")

    def kill(self):
        """Its memory is gone, with all that it had not synced."""
        self.process.kill()
        self.wait(30)

    def wait(self, timeout):
        self.process.wait(timeout)
        self.process, self.init = None, None

    def journal(self):
        """Of one that runs; else its console has to do."""
        if not self.is_up():
            return "it is off; see its console\n"
        try:
            return self.run("journalctl --no-pager -o short-precise", 60)[1]
        except subprocess.TimeoutExpired:
            return "it does not answer; see its console\n"

    def copy(self, source, target):
        target.write_text(self.run(f"cat {shlex.quote(str(source))}", 60)[1])

    def console(self):
        if not self.is_up():
            raise OSError(f"{self.name} is off: see its console")
        return Path(self.log.name).read_text(errors="replace")

    def clear(self):
        if self.is_up():
            self.kill()
        self.log.close()
        remove_tree(self.group)


class TapCable(network.Cable):
    """From the bridge to a guest's eth1."""

    def lay(self, name):
        network.ip("tuntap", "add", self.outer, "mode", "tap")
        network.ip("link", "set", self.outer, "master", network.BRIDGE, "up")


def with_sbin():
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
