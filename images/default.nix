# Images of machines: `nix build .#image-qemu-efi`, `image-raw-efi`, `image-iso`.
{
  self,
  lib,
  nixosSystem,
  system,
}:

let
  formats = [
    "qemu-efi"
    "raw-efi"
    "iso"
  ];
  appliance = nixosSystem {
    inherit system;
    modules = [
      self.nixosModules.default
      ./appliance.nix
    ];
  };
in
lib.listToAttrs (
  map (format: lib.nameValuePair "image-${format}" appliance.config.system.build.images.${format}) formats
)
