"""The Nix files: each parses; and where LITEFS_PY_TEST_NIXPKGS names a copy of nixpkgs (its `lib` is enough),
the module is evaluated for each example and for what is wrong. docs/nix.md says what only Nix can show."""

import json
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT, need

sys.path.insert(0, str(ROOT / "scripts"))
import nix_options  # noqa: E402

FILES = sorted(p for part in ("nixos", "images") for p in (ROOT / part).rglob("*.nix"))
FILES.append(ROOT / "flake.nix")
FLEET = ROOT / "nixos" / "examples" / "fleet.nix"
DECLARATIVE = ROOT / "nixos" / "examples" / "declarative.nix"
CHECKS = ROOT / "tests" / "packaging" / "nix" / "checks.nix"


def nix(*arguments):
    need("nix-instantiate")
    return subprocess.run(
        ["nix-instantiate", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "NIX_REMOTE": "local"},
    )


@pytest.fixture
def evaluate(tmp_path):
    """Of a module, as text: what NixOS would be told."""
    nixpkgs = os.environ.get("LITEFS_PY_TEST_NIXPKGS")
    if not nixpkgs:
        pytest.skip("LITEFS_PY_TEST_NIXPKGS names no copy of nixpkgs")
    need("nix-instantiate")

    def evaluated(module):
        return nix_options.evaluate(nixpkgs, module, tmp_path)

    return evaluated


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_it_parses(path):
    done = nix("--parse", path)
    assert done.returncode == 0, done.stderr


def test_the_lock_is_of_the_one_input():
    lock = json.loads((ROOT / "flake.lock").read_text())
    flake = (ROOT / "flake.nix").read_text()
    assert set(lock["nodes"]) == {"root", "nixpkgs"}
    original = lock["nodes"]["nixpkgs"]["original"]
    url = f"github:{original['owner']}/{original['repo']}/{original['ref']}"
    assert re.findall(r'inputs\.(\w+)\.url = "(.+)";', flake) == [("nixpkgs", url)]


def test_each_scenario_names_its_machines_in_its_first_line():
    """nixos/checks.nix reads them there."""
    for path in (ROOT / "vm-tests" / "scenarios").glob("*.py"):
        lines = path.read_text().splitlines()
        assert re.fullmatch(r"# machines:( n\d)+", lines[0]), path
        # And of one that is for one engine alone, this in the second.
        about = [number for number, line in enumerate(lines) if line.startswith("# engines:")]
        assert about in ([], [1]), path
        assert not about or re.fullmatch("# engines: (embedded|litefs)", lines[1]), path


@pytest.mark.parametrize("node", ["n1", "n2", "n3"])
def test_the_fleet(evaluate, node):
    told = evaluate(f"(import {FLEET}).{node}")
    assert (told["failed"], told["ports"], told["configuration"]) == ([], [4321], None)
    services = told["services"]
    assert services["litefs-py"]["wantedBy"] == ["multi-user.target"]
    assert services["myapp"]["requires"] == services["myapp"]["after"] == ["litefs-py.target"]
    assert ("litefs-py-join" in services) == (node != "n1")
    if node != "n1":
        join = services["litefs-py-join"]
        assert "--server 10.0.0.1:4321" in join["script"] and f"--name {node}" in join["script"]
        assert join["serviceConfig"]["LoadCredential"] == "token:/run/secrets/litefs-py-token"


def test_a_configuration_that_is_declared(evaluate, static_program, tmp_path):
    told = evaluate(f"(import {DECLARATIVE})")
    assert told["failed"] == []
    config = tmp_path / "config.yml"
    config.write_text(json.dumps(told["configuration"]))
    command = [static_program, "config", "check", config]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


WRONG = {
    "a secret in the store": (
        '{ join = { tokenFile = "/nix/store/x-token"; servers = [ "a:1" ]; address = "b:1"; }; }',
        "join.tokenFile is in the Nix store",
    ),
    "no LiteFS": (
        '{ engine = "litefs"; litefsPackage = null; }',
        "needs `litefsPackage`",
    ),
    "two ways at once": (
        '{ declarative = true; join = { tokenFile = "/run/t"; servers = [ "a:1" ]; address = "b:1"; }; }',
        "choose one",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(evaluate, name):
    options, message = WRONG[name]
    told = evaluate(
        f'{{ networking.hostName = "n1"; services.litefs-py = {{ enable = true; }} // {options}; }}'
    )
    assert len(told["failed"]) == 1 and message in told["failed"][0]


def test_the_other_engine(evaluate):
    """LiteFS is where the daemon looks for it; a configuration that is declared says which engine it is."""
    told = evaluate(
        '{ networking.hostName = "n1"; services.litefs-py = { enable = true; engine = "litefs"; }; }'
    )
    assert told["failed"] == [] and told["configuration"] is None
    assert told["services"]["litefs-py"]["path"] == ["/nix/store/litefs", "/nix/store/fuse3"]
    declared = evaluate(f'{{ imports = [ {DECLARATIVE} ]; services.litefs-py.engine = "litefs"; }}')
    assert declared["configuration"]["engine"] == "litefs"
    embedded = evaluate(f"(import {DECLARATIVE})")
    assert embedded["configuration"]["engine"] == "embedded"
    assert embedded["services"]["litefs-py"]["path"] == []


def test_the_page_of_options_is_the_module_s(evaluate):
    page = nix_options.page(evaluate(nix_options.MODULE)["options"])
    assert (ROOT / "docs/nix-options.md").read_text() == page, "scripts/nix_options.py makes it"


def test_two_that_claim_the_mount_point(evaluate):
    told = evaluate(
        '{ networking.hostName = "n1"; services.litefs-py.enable = true; fileSystems."/litefs" = { }; }'
    )
    assert len(told["failed"]) == 1 and "/litefs" in told["failed"][0]


def test_the_checks_are_each_scenario_with_each_engine():
    nixpkgs = os.environ.get("LITEFS_PY_TEST_NIXPKGS")
    if not nixpkgs:
        pytest.skip("LITEFS_PY_TEST_NIXPKGS names no copy of nixpkgs")
    asked = ["--eval", "--strict", "--json", "--arg", "nixpkgs", nixpkgs, CHECKS]
    done = nix(*asked)
    assert done.returncode == 0, done.stderr
    checks = json.loads(done.stdout)
    wanted = {}
    for path in (ROOT / "vm-tests" / "scenarios").glob("*.py"):
        about, text = path.read_text().splitlines()[:2], path.read_text()
        machines = about[0].removeprefix("# machines: ").split()
        for engine, prefix in (("embedded", "vm-"), ("litefs", "vm-litefs-")):
            if not about[1].startswith("# engines:") or about[1].endswith(engine):
                nodes = dict.fromkeys(machines, engine)
                wanted[f"{prefix}{path.stem}"] = (nodes, f'ENGINE = "{engine}"\n', text)
    assert set(checks) == set(wanted)
    for name, (nodes, head, text) in wanted.items():
        assert checks[name]["nodes"] == nodes, name
        assert checks[name]["testScript"].startswith(head), name
        assert checks[name]["testScript"].endswith(text), name
