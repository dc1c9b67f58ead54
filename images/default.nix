# Images of machines: `nix build .#image-qemu-efi`, `image-raw-efi`, and `image-iso`, which installs one.
{
  self,
  lib,
  nixosSystem,
  system,
}:

let
  machine =
    modules:
    nixosSystem {
      modules = [ { nixpkgs.hostPlatform = system; } ] ++ modules;
    };
  appliance = machine [ self.nixosModules.appliance ];
  metal = machine [
    self.nixosModules.appliance
    ./metal.nix
  ];
  installer = machine [
    (import ./installer.nix { appliance = metal.config.system.build.toplevel; })
  ];
  of = format: lib.nameValuePair "image-${format}" appliance.config.system.build.images.${format};
in
lib.listToAttrs (
  map of [
    "qemu-efi"
    "raw-efi"
  ]
)
// {
  image-iso = installer.config.system.build.isoImage;
}
