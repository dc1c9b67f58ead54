"""The nodes' network: a namespace for each, joined by a bridge; partitions by nft within them.

A cut is directed: `(a, b)` means that what a sends does not arrive at b. It is dropped where it
arrives, without an answer, as a broken switch would.
"""

import subprocess

PREFIX = "10.77.0."
BRIDGE = "tbr0"
RULES = """
table inet torture {
  set blocked {
    type ipv4_addr
  }
  set lossy {
    type ipv4_addr
  }
  chain input {
    type filter hook input priority 0; policy accept;
    ip saddr @blocked drop
    ip saddr @lossy numgen random mod 100 < 25 drop
  }
}
"""


def run(*command, text=None):
    done = subprocess.run(command, input=text, text=True, capture_output=True, timeout=30)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def inside(name):
    """The command line that runs what follows in a node's network namespace. Not `ip netns exec`,
    which hides the mounts that are made within."""
    return ["nsenter", f"--net=/run/netns/{name}"]


class Network:
    def __init__(self, names):
        self.names = list(names)
        self.cuts = set()

    def address(self, name):
        return f"{PREFIX}{self.names.index(name) + 1}"

    def make(self):
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "link", "set", BRIDGE, "up")
        for name in self.names:
            run("ip", "netns", "add", name)
            run("ip", "link", "add", f"v-{name}", "type", "veth", "peer", "eth0", "netns", name)
            run("ip", "link", "set", f"v-{name}", "master", BRIDGE, "up")
            batch = f"addr add {self.address(name)}/24 dev eth0\nlink set eth0 up\nlink set lo up\n"
            run("ip", "-n", name, "-batch", "-", text=batch)
            run(*inside(name), "nft", "-f", "-", text=RULES)

    def cut(self, cuts):
        """These are cut, and no others."""
        cuts = set(cuts)
        for name in self.names:
            before = {a for a, b in self.cuts if b == name}
            after = {a for a, b in cuts if b == name}
            if before == after:
                continue
            orders = "flush set inet torture blocked\n"
            if after:
                these = ", ".join(self.address(a) for a in sorted(after))
                orders += f"add element inet torture blocked {{ {these} }}\n"
            run(*inside(name), "nft", "-f", "-", text=orders)
        self.cuts = cuts

    def heal(self):
        self.cut(())

    def lose(self, names):
        """Of what arrives at these nodes, a part is lost."""
        for name in self.names:
            orders = "flush set inet torture lossy\n"
            if name in names:
                others = ", ".join(self.address(each) for each in self.names if each != name)
                orders += f"add element inet torture lossy {{ {others} }}\n"
            run(*inside(name), "nft", "-f", "-", text=orders)


def between(ones, others):
    """Both ways, between each of the ones and each of the others."""
    return {(a, b) for a in ones for b in others} | {(b, a) for a in ones for b in others}
