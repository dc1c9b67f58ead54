"""What a scenario sees besides the machines, in the names of the NixOS test driver; and the life of a run."""

import subprocess
import time
import traceback
import unittest
from contextlib import contextmanager

from qemu.guest import Guest, TapCable

from . import network
from .container import Container
from .machine import Machine, RequestedAssertionFailed, retry


class AssertionTester(unittest.TestCase):
    failureException = RequestedAssertionFailed


class Driver:
    """Machines for one scenario, by their names."""

    def __init__(self, names, guests, folder, disks, group, out_dir):
        """`guests` are those that QEMU runs. `disks`: what containers stand upon, and the guests' image."""
        self.out_dir, self.began = out_dir, time.monotonic()
        out_dir.mkdir(parents=True, exist_ok=True)
        self.record = open(out_dir / "scenario.log", "w")
        hosts = "127.0.0.1 localhost\n" + "".join(
            f"192.168.1.{number} {name}\n" for number, name in enumerate(names, 1)
        )
        self.machines = []
        lower, image = disks
        for number, name in enumerate(names, 1):
            log = open(out_dir / f"{name}.console", "ab")
            log.truncate(0)
            place = folder / name
            if name in guests:
                cable = TapCable(name, number)
                container = Guest(name, number, place, image, cable, hosts, group, log)
            else:
                cable = network.Cable(name, number)
                container = Container(name, place, lower, cable, hosts, group, log)
            self.machines.append(Machine(container, out_dir, self.say))

    def say(self, message):
        line = f"{time.monotonic() - self.began:7.2f}  {message}"
        self.record.write(line + "\n")
        self.record.flush()

    @contextmanager
    def subtest(self, name):
        self.say(f"-- {name}")
        began = time.monotonic()
        try:
            yield
        finally:
            self.say(f"-- {name}: {time.monotonic() - began:.1f} s")

    def start_all(self):
        for machine in self.machines:
            machine.start()

    def symbols(self):
        return {
            **{machine.name: machine for machine in self.machines},
            "machines": self.machines,
            "start_all": self.start_all,
            "subtest": self.subtest,
            "retry": retry,
            "t": AssertionTester(),
        }

    def run(self, script, name):
        """Whether it passed; why not is in its log, with the journals of all machines."""
        try:
            exec(compile(script, name, "exec"), self.symbols())
            return True
        except BaseException:
            self.say(traceback.format_exc())
            for machine in self.machines:
                if machine.is_up():
                    machine.container.freeze(False)
                journal = machine.container.journal()
                (self.out_dir / f"{machine.name}.journal").write_text(journal)
            return False

    def clear(self):
        for machine in self.machines:
            machine.container.clear()
            subprocess.run(["ip", "link", "del", machine.container.cable.outer], check=False)
            subprocess.run(["ip", "netns", "del", machine.name], check=False, capture_output=True)
        self.record.close()
