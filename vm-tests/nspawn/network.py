"""The network of the machines: a bridge, and a cable to each. As in the NixOS test driver eth1 is the
network between the machines, 192.168.1.N for the Nth."""

import subprocess

BRIDGE = "vlan1"


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def make_bridge():
    ip("link", "add", BRIDGE, "type", "bridge", "forward_delay", "0")
    ip("link", "set", BRIDGE, "up")


class Cable:
    """From the bridge to a machine's eth1. It outlives the machine, as a cable does."""

    def __init__(self, name, number):
        self.outer = f"{name}-cable"
        self.address = f"192.168.1.{number}"
        self.lay(name)

    def lay(self, name):
        ip("netns", "add", name)
        end = ["peer", "name", "eth1", "netns", name]
        ip("link", "add", self.outer, "type", "veth", *end)
        ip("link", "set", self.outer, "master", BRIDGE, "up")
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "addr", "add", f"{self.address}/24", "dev", "eth1")
        ip("-n", name, "link", "set", "eth1", "up")

    def unplug(self):
        ip("link", "set", self.outer, "down")

    def plug(self):
        ip("link", "set", self.outer, "up")
