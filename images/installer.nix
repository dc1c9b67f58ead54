# The ISO: NixOS's minimal installation medium with the appliance on it, whole, and what puts it on a disk.
# No network is needed. `appliance` is the system to install.
{ appliance }:
{
  config,
  pkgs,
  modulesPath,
  ...
}:
let
  install = pkgs.writeShellApplication {
    name = "litefs-py-install";
    runtimeInputs = [
      pkgs.dosfstools
      pkgs.e2fsprogs
      pkgs.util-linux
      config.system.build.nixos-install
    ];
    text = ''
      export SYSTEM=${appliance}
    ''
    + builtins.readFile ./install;
  };
in
{
  imports = [
    ./access.nix
    (modulesPath + "/installer/cd-dvd/installation-cd-minimal.nix")
  ];

  environment.systemPackages = [ install ];
  isoImage.storeContents = [ appliance ];
  services.getty.helpLine = ''

    `litefs-py-install --help` puts a node of litefs-py on a disk of this machine.
  '';
}
