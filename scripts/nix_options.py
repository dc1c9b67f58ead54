"""The options of the NixOS module, as docs/nix-options.md has them.

    LITEFS_PY_TEST_NIXPKGS=/path/to/nixpkgs scripts/nix_options.py > docs/nix-options.md

The `lib` of nixpkgs is enough. A test holds the page against the module.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EVALUATE = ROOT / "tests/packaging/nix/evaluate.nix"
MODULE = '{ networking.hostName = "n1"; }'
OURS = "services.litefs-py."
HEAD = """# Options of the NixOS module

Of `services.litefs-py`, made from the module by `scripts/nix_options.py`. [nix.md](nix.md) has how they go together.
"""


def evaluate(nixpkgs, module, scratch):
    """What NixOS would be told, by a store of its own that goes with `scratch`."""
    stores = {
        name: str(Path(scratch) / name)
        for name in ("NIX_STATE_DIR", "NIX_LOG_DIR", "NIX_LOCALSTATE_DIR")
    }
    store = ["--option", "store", str(Path(scratch) / "store")]
    arguments = ["--arg", "nixpkgs", nixpkgs, "--arg", "module", module, str(EVALUATE)]
    done = subprocess.run(
        ["nix-instantiate", *store, "--eval", "--strict", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "NIX_REMOTE": "local", **stores},
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def page(options):
    """The options, in the order of their names."""
    parts = [HEAD]
    for option in sorted(options, key=lambda option: option["name"]):
        if not option["name"].startswith(OURS):
            continue
        parts.append(f"## `{option['name']}`\n")
        parts.append(f"{option['description'].strip()}\n")
        facts = [f"- Type: {option['type']}"]
        for what in ("default", "example"):
            if option[what] is not None:
                facts.append(f"- {what.capitalize()}: `{' '.join(option[what].split())}`")
        parts.append("\n".join(facts) + "\n")
    return "\n".join(parts)


def main():
    nixpkgs = os.environ.get("LITEFS_PY_TEST_NIXPKGS")
    if not nixpkgs:
        sys.exit("LITEFS_PY_TEST_NIXPKGS names no copy of nixpkgs")
    with tempfile.TemporaryDirectory() as scratch:
        print(page(evaluate(nixpkgs, MODULE, scratch)["options"]), end="")


if __name__ == "__main__":
    main()
