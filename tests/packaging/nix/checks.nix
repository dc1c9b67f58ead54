# nixos/checks.nix by nixpkgs's `lib` alone: of each check what the NixOS test driver would be told.
#   nix-instantiate --eval --strict --json --arg nixpkgs PATH checks.nix
{ nixpkgs }:

let
  checks = import ../../../nixos/checks.nix {
    lib = import (nixpkgs + "/lib");
    system = "a";
    self = {
      packages.a.default = null;
      nixosModules.default = { };
    };
    pkgs = {
      testers.runNixOSTest = test: {
        inherit (test) testScript;
        nodes = builtins.mapAttrs (_: node: node.services.litefs-py.engine) test.nodes;
      };
    };
  };
in
removeAttrs checks [ "package" ]
