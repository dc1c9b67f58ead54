"""The systemd unit: that systemd understands it, how exposed it is, and that the mount stays visible."""

import re
import subprocess

import pytest
from conftest import ROOT, need

UNIT = ROOT / "packaging" / "litefs-py.service"

# systemd.exec(5): each of these gives the unit a mount namespace of its own, and hides the databases from
# everyone else (measured with systemd 252).
HIDES_THE_MOUNT = {
    "PrivateTmp", "PrivateDevices", "PrivateMounts", "ProtectSystem", "ProtectHome", "ProtectKernelModules",
    "ProtectKernelTunables", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc", "ProcSubset",
    "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths", "BindPaths",
    "BindReadOnlyPaths", "TemporaryFileSystem", "RootDirectory", "RootImage", "DynamicUser", "MountFlags",
    "PrivateUsers", "PrivateIPC", "LogNamespace", "ExtensionImages", "MountImages",
}  # fmt: skip


def settings():
    lines = re.findall(r"^([A-Z][A-Za-z]+)=(.*)$", UNIT.read_text(), re.MULTILINE)
    return lines


def test_nothing_in_it_hides_the_mount():
    assert {name for name, _ in settings()} & HIDES_THE_MOUNT == set()


def test_systemd_understands_it(tmp_path):
    need("systemd-analyze")
    program = tmp_path / "litefs-py"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/usr/bin/litefs-py", str(program)))
    target = tmp_path / "litefs-py.target"
    target.write_text((ROOT / "packaging" / target.name).read_text())
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", copy, target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_how_exposed_it_is(measured):
    need("systemd-analyze")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", UNIT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    measured(f"systemd-analyze security: {found[1]} (0 is best, 10 worst)")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Type", "notify"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", "CAP_SYS_ADMIN CAP_LINUX_IMMUTABLE CAP_CHOWN"),
        ("DevicePolicy", "closed"),
        ("KillMode", "mixed"),
        ("RestartPreventExitStatus", "78"),
        ("ConditionPathExists", "/etc/litefs-py/config.yml"),
    ],
)
def test_what_it_promises(name, value):
    assert (name, value) in settings()
