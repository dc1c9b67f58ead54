"""The scenarios of vm-tests use no call that the NixOS test driver lacks, and ours mean the same."""

import ast
import inspect
from pathlib import Path

import pytest
from conftest import ROOT, SCENARIOS, named_nixpkgs

PRELUDE = ROOT / "vm-tests" / "prelude.py"
DRIVER = "nixos/lib/test-driver/src/test_driver"

# Calls of a machine of the NixOS test driver (nixpkgs 26.05) with their parameters, as far as scenarios
# may use them; where LITEFS_PY_TEST_NIXPKGS names a nixpkgs they are compared with its source.
MACHINE = {
    "block": [],
    "connect": [],
    "copy_from_machine": ["source", "target_dir"],
    "crash": [],
    "execute": ["command", "check_return", "check_output", "timeout"],
    "fail": ["commands", "timeout"],
    "get_unit_property": ["unit", "property", "user"],
    "is_up": [],
    "log": ["msg"],
    "send_monitor_command": ["command"],
    "shutdown": [],
    "start": [],
    "succeed": ["commands", "timeout"],
    "systemctl": ["q", "user"],
    "unblock": [],
    "wait_for_file": ["filename", "timeout"],
    "wait_for_open_port": ["port", "addr", "timeout"],
    "wait_for_shutdown": [],
    "wait_for_unit": ["unit", "user", "timeout"],
    "wait_until_fails": ["command", "timeout"],
    "wait_until_succeeds": ["command", "timeout"],
}
# What else a test script sees.
GLOBALS = {"machines", "start_all", "subtest", "retry", "t"}
# Values of a machine that are no calls.
VALUES = {"name"}
PYTHON = set(dir(__builtins__)) | set(__builtins__ if isinstance(__builtins__, dict) else ())
NODES = {"n1", "n2", "n3", "n4"}


def parsed(path):
    # What stands before: nixos/vm-checks.nix, vm-tests/run.
    return ast.parse('ENGINE = "embedded"\n' + PRELUDE.read_text() + path.read_text())


def bound(tree):
    """Names that the script itself gives."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
            arguments = node.args
            given = [*arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            names |= {one.arg for one in given if one}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_knows_nothing_but_the_driver(path):
    tree = parsed(path)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert used - bound(tree) - GLOBALS - NODES - PYTHON == set()


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_uses_calls_of_the_driver_only(path):
    """Of what is not a method of Python's own values or of `t`: by name, since whatever machine it is
    called on."""
    others = set(dir(str) + dir(list) + dir(dict) + dir(set)) | {"quote", "assertEqual"}
    tree = parsed(path)
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert called - set(MACHINE) - VALUES - others == set()
    assert "succeed" in called


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_each_wait_of_a_scenario_has_a_timeout(path):
    waits = {name for name in MACHINE if name.startswith("wait_") and "timeout" in MACHINE[name]}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in waits:
                given = {keyword.arg for keyword in node.keywords}
                assert "timeout" in given, f"line {node.lineno}: {node.func.attr}"


def parameters(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_our_machine_has_each_call_with_the_driver_s_parameters():
    from nspawn.machine import Machine

    for name, wanted in MACHINE.items():
        assert parameters(getattr(Machine, name)) == wanted, name


def driver_calls():
    """From the driver's source: of each method, its parameters."""
    nixpkgs = named_nixpkgs()
    source = Path(nixpkgs) / DRIVER / "machine" / "__init__.py"
    if not source.exists():
        pytest.skip(f"{nixpkgs} holds no test driver")
    calls = {}
    for kind in ast.parse(source.read_text()).body:
        if isinstance(kind, ast.ClassDef) and kind.name in ("BaseMachine", "QemuMachine"):
            for method in kind.body:
                if isinstance(method, ast.FunctionDef):
                    arguments = method.args
                    given = [*arguments.args, arguments.vararg, *arguments.kwonlyargs]
                    calls[method.name] = [one.arg for one in given if one and one.arg != "self"]
    return calls


def test_the_list_is_the_driver_s():
    calls = driver_calls()
    for name, wanted in MACHINE.items():
        # `start` and others have further ones with defaults.
        assert calls[name][: len(wanted)] == wanted, name
