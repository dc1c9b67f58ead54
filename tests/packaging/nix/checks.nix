# nixos/vm-checks.nix by nixpkgs's `lib` alone: of each check its machines, and the script that the driver runs.
#   nix-instantiate --eval --strict --json --arg nixpkgs PATH checks.nix
{ nixpkgs }:

import ../../../nixos/vm-checks.nix {
  lib = import (nixpkgs + "/lib");
  pkgs = {
    writeText = _: text: text;
    testers.runNixOSTest = test: {
      config.rawTestDerivation.overrideAttrs = changed: {
        script = changed.SCENARIO;
        nodes = builtins.attrNames test.nodes;
      };
    };
  };
}
