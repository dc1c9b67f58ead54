"""The Nix files: each parses; and where LITEFS_PY_TEST_NIXPKGS names a copy of nixpkgs (its `lib` is enough),
the module is evaluated for each example and for what is wrong. docs/nix.md says what only Nix can show."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SCENARIOS, named_nixpkgs, need

sys.path.insert(0, str(ROOT / "scripts"))
import nix_options  # noqa: E402

FILES = sorted(p for part in ("nixos", "images") for p in (ROOT / part).rglob("*.nix"))
FILES.append(ROOT / "flake.nix")
FLEET = ROOT / "nixos" / "examples" / "fleet" / "machines.nix"
DECLARATIVE = ROOT / "nixos" / "examples" / "declarative.nix"
CHECKS = ROOT / "tests" / "packaging" / "nix" / "checks.nix"
WHOLE = ROOT / "tests" / "packaging" / "nix" / "whole.nix"
OUTPUTS = [
    "apps",
    "checks",
    "devShells",
    "formatter",
    "nixosModules",
    "overlays",
    "packages",
    "templates",
]
PACKAGES = {
    *("default", "litefs-py", "static", "container", "docs", "wheels"),
    *("python-litefs-py", "python-litefs-django", "python-litefs-fastapi"),
    *("image-qemu-efi", "image-raw-efi", "image-iso"),
}
BUILT_CHECKS = {
    *("package", "clippy", "tests", "python-tests", "lint"),
    *(f"module-{name}" for name in ("declarative", "litefs", "fleet-n1", "fleet-n2", "fleet-n3")),
}


def nix(*arguments, timeout=120):
    need("nix-instantiate")
    return subprocess.run(
        ["nix-instantiate", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "NIX_REMOTE": "local"},
    )


@pytest.fixture
def evaluate(tmp_path):
    """Of a module, as text: what NixOS would be told."""
    nixpkgs = named_nixpkgs()
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
    """nixos/vm-checks.nix reads them there."""
    for path in SCENARIOS:
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
        assert "token=/run/secrets/litefs-py-token" in join["script"]


@pytest.mark.parametrize(
    ("mode", "said"), [(None, "there is no"), (0o644, "chmod 600"), (0o600, "joined by SECRET")]
)
def test_the_token_s_file(evaluate, tmp_path, mode, said):
    """What the unit that joins says of a file that is missing, or that others can read."""
    token, program = tmp_path / "token", tmp_path / "program"
    if mode:
        token.write_text("SECRET\n")
        token.chmod(mode)
    program.write_text("#!/bin/sh\nread -r token\necho joined by $token\n")
    program.chmod(0o755)
    options = f'{{ tokenFile = "{token}"; servers = [ "a:1" ]; address = "b:1"; }}'
    told = evaluate(
        f'{{ networking.hostName = "n1"; services.litefs-py = {{ enable = true; join = {options}; }}; }}'
    )
    script = told["services"]["litefs-py-join"]["script"]
    script = script.replace("/nix/store/litefs-py/bin/litefs-py", str(program))
    done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True)
    assert said in done.stdout + done.stderr
    assert (done.returncode == 0) == (mode == 0o600)


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


def scenarios():
    """Of each check of machines: their names, and what stands first and last in its script."""
    wanted = {}
    for path in SCENARIOS:
        about, text = path.read_text().splitlines()[:2], path.read_text()
        machines = about[0].removeprefix("# machines: ").split()
        for engine, prefix in (("embedded", "vm-"), ("litefs", "vm-litefs-")):
            if not about[1].startswith("# engines:") or about[1].endswith(engine):
                wanted[f"{prefix}{path.stem}"] = (machines, f'ENGINE = "{engine}"\n', text)
    return wanted


def test_the_checks_are_each_scenario_with_each_engine():
    nixpkgs = named_nixpkgs()
    asked = ["--eval", "--strict", "--json", "--arg", "nixpkgs", nixpkgs, CHECKS]
    done = nix(*asked)
    assert done.returncode == 0, done.stderr
    checks, wanted = json.loads(done.stdout), scenarios()
    assert set(checks) == set(wanted)
    for name, (nodes, head, text) in wanted.items():
        assert checks[name]["nodes"] == nodes, name
        assert checks[name]["script"].startswith(head), name
        assert checks[name]["script"].endswith(text), name


def whole_nixpkgs():
    nixpkgs = named_nixpkgs()
    if not (Path(nixpkgs) / "pkgs/top-level/all-packages.nix").exists():
        pytest.skip(f"{nixpkgs} has nixpkgs's lib alone")
    told = nix("--version").stdout
    version = tuple(map(int, re.search(r"(\d+)\.(\d+)", told).groups()))
    if version < (2, 18):
        pytest.skip(f"a whole nixpkgs wants Nix 2.18; here is {told.strip()}")
    return nixpkgs


@pytest.fixture
def source(tmp_path):
    """What a flake sees of the repository: what git knows."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            target = tmp_path / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    return tmp_path / "source"


@pytest.mark.parametrize("system", ["x86_64-linux", "aarch64-linux"])
def test_every_output_evaluates_over_a_whole_nixpkgs(source, tmp_path, system):
    """Down to what would be built; a minute or two for each system. docs/nix.md has the list."""
    nixpkgs = whole_nixpkgs()
    for name in ("n1", "n2", "n3"):
        hardware = source / "nixos" / "examples" / "fleet" / f"hardware-{name}.nix"
        hardware.write_text('{ boot.isContainer = true; system.stateVersion = "26.05"; }\n')
    done = nix(
        *("--option", "store", tmp_path / "store", "--readonly-mode"),
        *("--eval", "--strict", "--json", "--arg", "nixpkgs", nixpkgs),
        *("--arg", "source", source, "--argstr", "system", system, WHOLE),
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout)
    assert told["outputs"] == OUTPUTS
    assert set(told["fleet"]) == {"n1", "n2", "n3"}
    assert told["modules"] == ["appliance", "default"]
    assert set(told["packages"]) == PACKAGES
    vm = {name for name in told["checks"] if name.startswith("vm-")}
    assert vm == set(scenarios())
    assert set(told["checks"]) - vm == BUILT_CHECKS
    page = (ROOT / "docs" / "nix.md").read_text()
    missing = [name for name in PACKAGES | BUILT_CHECKS if name not in page]
    assert missing == [], "docs/nix.md does not name them"
    warnings = [line for line in done.stderr.splitlines() if "evaluation warning" in line]
    assert warnings == []
