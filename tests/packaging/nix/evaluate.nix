# The module by nixpkgs's `lib` alone, over options that stand for those of NixOS which it uses.
#   nix-instantiate --eval --strict --json --arg nixpkgs PATH --arg module FILE evaluate.nix
{ nixpkgs, module }:

let
  lib = import (nixpkgs + "/lib");
  inherit (lib) mkOption types;
  anything = mkOption {
    type = types.attrsOf types.anything;
    default = { };
  };
  list = mkOption {
    type = types.listOf types.anything;
    default = [ ];
  };
  yaml =
    let
      value =
        types.nullOr (
          types.oneOf [
            types.bool
            types.int
            types.float
            types.str
            types.path
            (types.attrsOf value)
            (types.listOf value)
          ]
        )
        // {
          description = "YAML value";
        };
    in
    value;
  package = {
    type = "derivation";
    name = "litefs-py";
    outPath = "/nix/store/litefs-py";
    meta.mainProgram = "litefs-py";
  };
  pkgs = {
    litefs-py = package;
    litefs = package // {
      name = "litefs";
      outPath = "/nix/store/litefs";
    };
    fuse3 = package // {
      name = "fuse3";
      outPath = "/nix/store/fuse3";
    };
    formats.yaml = _: {
      type = yaml;
      generate = _: value: value;
    };
    runCommand = name: environment: script: {
      inherit name script;
      source = environment.source;
    };
  };
  system = lib.evalModules {
    modules = [
      ../../../nixos/module.nix
      module
      {
        config._module.args.pkgs = pkgs;
        options = {
          assertions = list;
          boot.kernelModules = list;
          environment.etc = anything;
          environment.systemPackages = list;
          fileSystems = anything;
          networking.firewall.allowedTCPPorts = list;
          programs.fuse.enable = mkOption { type = types.bool; };
          networking.hostName = mkOption { type = types.str; };
          systemd.packages = list;
          systemd.services = anything;
          users.groups = anything;
        };
      }
    ];
  };
  inherit (system) config;
in
{
  # For docs/nix-options.md.
  options =
    map
      (option: {
        inherit (option) name description type;
        default = option.default.text or null;
        example = option.example.text or null;
      })
      (
        lib.filter (option: option.visible && !option.internal) (
          lib.optionAttrSetToDocList system.options.services
        )
      );
  failed = map (each: each.message) (lib.filter (each: !each.assertion) config.assertions);
  ports = config.networking.firewall.allowedTCPPorts;
  services = lib.mapAttrs (_: unit: removeAttrs unit [ "restartTriggers" ]) config.systemd.services;
  configuration =
    if config.environment.etc ? "litefs-py/config.yml" then
      config.environment.etc."litefs-py/config.yml".source.source
    else
      null;
}
