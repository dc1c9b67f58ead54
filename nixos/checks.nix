# `nix flake check`: the build, and each scenario of vm-tests on machines of NixOS, with both engines.
{
  self,
  lib,
  pkgs,
  system,
}:

let
  prelude = builtins.readFile ../vm-tests/prelude.py;
  scenarios = lib.filterAttrs (name: _: lib.hasSuffix ".py" name) (builtins.readDir ../vm-tests/scenarios);

  machine = engine: {
    imports = [ self.nixosModules.default ];
    services.litefs-py = {
      enable = true;
      inherit engine;
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
    engine: file:
    let
      text = builtins.readFile (../vm-tests/scenarios + "/${file}");
      # Its first line: `# machines: n1 n2 n3`.
      first = builtins.head (lib.splitString "\n" text);
      names = lib.splitString " " (lib.removePrefix "# machines: " first);
    in
    pkgs.testers.runNixOSTest {
      name = "litefs-py-${lib.removeSuffix ".py" file}-${engine}";
      nodes = lib.genAttrs names (_: machine engine);
      testScript = "ENGINE = \"${engine}\"\n" + prelude + text;
      globalTimeout = 15 * 60;
      # n1, n2 … are given by the driver.
      skipTypeCheck = true;
    };

  # Some are about the one engine alone: their second line says so.
  isFor =
    engine: file:
    let
      second = builtins.elemAt (lib.splitString "\n" (builtins.readFile (../vm-tests/scenarios + "/${file}"))) 1;
    in
    !(lib.hasPrefix "# engines: " second) || lib.hasSuffix engine second;

  checksOf =
    engine: prefix:
    lib.mapAttrs' (
      file: _: lib.nameValuePair "${prefix}${lib.removeSuffix ".py" file}" (scenario engine file)
    ) (lib.filterAttrs (file: _: isFor engine file) scenarios);
in
{
  package = self.packages.${system}.default;
}
// checksOf "embedded" "vm-"
// checksOf "litefs" "vm-litefs-"
