"""The calls of a machine, as scenarios use them: names, parameters and meaning are those of the NixOS test
driver (nixos/lib/test-driver). tests/packaging compares them with its list."""

import re
import subprocess
import time
from pathlib import Path


class RequestedAssertionFailed(AssertionError):
    """What a scenario asked for did not hold."""


# Between two tries. The driver's is a second; a machine of ours answers at once.
PAUSE = 0.1
# A command that says nothing for so long has hung, whatever the scenario allows.
LONGEST = 120


def retry(fn, timeout_seconds=900):
    """Until `fn` is true; told whether it is the last time."""
    end = time.monotonic() + timeout_seconds
    while time.monotonic() < end:
        if fn(False):
            return
        time.sleep(PAUSE)
    if not fn(True):
        raise RequestedAssertionFailed(f"not within {timeout_seconds} s")


class Machine:
    def __init__(self, container, out_dir, say):
        self.name, self.container = container.name, container
        self.out_dir, self.say = Path(out_dir), say

    def log(self, msg):
        self.say(f"{self.name}: {msg}")

    # Its life

    def start(self):
        if not self.is_up():
            self.log("starts")
            self.container.start()

    def is_up(self):
        return self.container.is_up()

    def connect(self):
        """Until its systemd answers."""
        self.start()

        def answers(_last):
            if not self.is_up():
                raise RequestedAssertionFailed(f"{self.name} ended while it started")
            if not self.container.find_init():
                return False
            return self.container.run("systemctl show --property=Version", 60)[0] == 0

        if self.container.init is None:
            retry(answers, self.container.BOOT)

    def shutdown(self):
        if self.is_up():
            self.log("shuts down")
            self.connect()
            self.container.run("systemctl poweroff", 60)
            self.wait_for_shutdown()

    def wait_for_shutdown(self):
        if self.container.process is not None:
            self.container.wait(LONGEST)

    def crash(self):
        if self.is_up():
            self.log("loses its power")
            self.container.kill()

    def block(self):
        self.log("its cable is pulled")
        self.container.cable.unplug()

    def unblock(self):
        self.log("its cable is plugged in")
        self.container.cable.plug()

    def send_monitor_command(self, command):
        """Of QEMU's monitor: what freezes and thaws a machine."""
        frozen = {"stop": True, "cont": False}.get(command)
        if frozen is None:
            raise ValueError(f"{command!r}: containers know 'stop' and 'cont'")
        self.log("freezes" if frozen else "thaws")
        self.container.freeze(frozen)
        return ""

    # Commands

    def execute(self, command, check_return=True, check_output=True, timeout=900):
        self.connect()
        limit = min(timeout or LONGEST, LONGEST)
        try:
            return self.container.run(f"set -euo pipefail; {command}", limit)
        except subprocess.TimeoutExpired:
            # As timeout(1) answers.
            return 124, f"no answer within {limit} s"

    def succeed(self, *commands, timeout=None):
        return "".join(self.must(command, True, timeout) for command in commands)

    def fail(self, *commands, timeout=None):
        return "".join(self.must(command, False, timeout) for command in commands)

    def must(self, command, succeed, timeout):
        code, output = self.execute(command, timeout=timeout)
        if (code == 0) != succeed:
            self.log(f"output: {output}")
            wanted = "failed" if succeed else "did not fail"
            raise RequestedAssertionFailed(f"{self.name}: {command!r} {wanted} (exit code {code})")
        return output

    def wait_until_succeeds(self, command, timeout=900):
        return self.wait_until(command, True, timeout)

    def wait_until_fails(self, command, timeout=900):
        return self.wait_until(command, False, timeout)

    def wait_until(self, command, succeed, timeout):
        output = ""

        def tried(last):
            nonlocal output
            code, output = self.execute(command, timeout=timeout)
            if last and (code == 0) != succeed:
                self.log(f"at last: {command!r}: exit code {code}: {output}")
            return (code == 0) == succeed

        retry(tried, timeout)
        return output

    # systemd

    def systemctl(self, q, user=None):
        return self.execute(f"systemctl {q}")

    def get_unit_property(self, unit, property, user=None):
        told = self.succeed(f"systemctl --no-pager show '{unit}' --property='{property}'")
        return re.fullmatch(r"[^=]+=(.*)\n?", told)[1]

    def wait_for_unit(self, unit, user=None, timeout=900):
        def active(_last):
            state = self.get_unit_property(unit, "ActiveState")
            if state == "failed":
                raise RequestedAssertionFailed(f"{self.name}: {unit} failed")
            jobs = self.succeed("systemctl list-jobs --full")
            if state == "inactive" and "No jobs" in jobs:
                state = self.get_unit_property(unit, "ActiveState")
                if state == "inactive":
                    raise RequestedAssertionFailed(f"{self.name}: {unit} is not to be started")
            return state == "active"

        retry(active, timeout)

    def wait_for_file(self, filename, timeout=900):
        self.wait_until_succeeds(f"test -e {filename}", timeout)

    def wait_for_open_port(self, port, addr="localhost", timeout=900):
        self.wait_until_succeeds(f"nc -z {addr} {port}", timeout)

    def copy_from_machine(self, source, target_dir=""):
        target = self.out_dir / target_dir / Path(source).name
        target.parent.mkdir(parents=True, exist_ok=True)
        self.container.copy(source, target)
