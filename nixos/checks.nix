# `nix flake check`: the build, and each scenario of vm-tests on machines of NixOS.
{
  self,
  lib,
  pkgs,
  system,
}:

let
  prelude = builtins.readFile ../vm-tests/prelude.py;
  scenarios = lib.filterAttrs (name: _: lib.hasSuffix ".py" name) (builtins.readDir ../vm-tests/scenarios);

  machine = {
    imports = [ self.nixosModules.default ];
    services.litefs-py = {
      enable = true;
      openFirewall = true;
    };
    # What scenarios use.
    environment.systemPackages = with pkgs; [
      curl
      nftables
      python3
      sqlite
    ];
    virtualisation.memorySize = 1024;
  };

  scenario =
    file:
    let
      text = builtins.readFile (../vm-tests/scenarios + "/${file}");
      # Its first line: `# machines: n1 n2 n3`.
      first = builtins.head (lib.splitString "\n" text);
      names = lib.splitString " " (lib.removePrefix "# machines: " first);
    in
    pkgs.testers.runNixOSTest {
      name = "litefs-py-${lib.removeSuffix ".py" file}";
      nodes = lib.genAttrs names (_: machine);
      testScript = prelude + text;
      globalTimeout = 15 * 60;
      # n1, n2 … are given by the driver.
      skipTypeCheck = true;
    };
in
{
  package = self.packages.${system}.default;
}
// lib.mapAttrs' (
  file: _: lib.nameValuePair "vm-${lib.removeSuffix ".py" file}" (scenario file)
) scenarios
