# The flake over a whole nixpkgs, without a network and without copying that into a store: of each output what would
# be built, as the path of its derivation.
#   nix-instantiate --eval --strict --json --arg nixpkgs PATH --arg source PATH --argstr system SYSTEM whole.nix
{
  nixpkgs,
  source,
  system,
}:

let
  # What a flake is told of itself and of its input.
  known = {
    lastModified = 1;
    lastModifiedDate = "19700101000001";
    shortRev = "0000000";
    rev = "0000000000000000000000000000000000000000";
    narHash = "";
  };
  flake =
    path: inputs:
    let
      self =
        known
        // {
          outPath = path;
        }
        // (import (path + "/flake.nix")).outputs (inputs // { inherit self; });
    in
    self;
  ours = flake source { nixpkgs = flake nixpkgs { }; };
  derivations = builtins.mapAttrs (_: output: builtins.unsafeDiscardStringContext output.drvPath);
  # The example, whose hardware's files the test writes.
  fleet = flake (source + "/nixos/examples/fleet") {
    nixpkgs = flake nixpkgs { };
    litefs-py = ours;
  };
in
{
  fleet = builtins.mapAttrs (
    _: machine: builtins.unsafeDiscardStringContext machine.config.system.build.toplevel.drvPath
  ) fleet.nixosConfigurations;
  packages = derivations ours.packages.${system};
  checks = derivations ours.checks.${system};
  devShells = derivations ours.devShells.${system};
  formatter = builtins.unsafeDiscardStringContext ours.formatter.${system}.drvPath;
  apps = builtins.mapAttrs (
    _: app: builtins.unsafeDiscardStringContext app.program
  ) ours.apps.${system};
  modules = builtins.attrNames ours.nixosModules;
  outputs = builtins.attrNames (removeAttrs ours (builtins.attrNames known ++ [ "outPath" ]));
}
