{
  description = "Three machines with litefs-py, and an application that uses it";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
  # A checkout of litefs-py.
  inputs.litefs-py.url = "path:/srv/src/litefs-py";
  inputs.litefs-py.inputs.nixpkgs.follows = "nixpkgs";

  outputs =
    { nixpkgs, litefs-py, ... }:
    {
      nixosConfigurations = nixpkgs.lib.mapAttrs (
        name: machine:
        nixpkgs.lib.nixosSystem {
          system = "x86_64-linux";
          modules = [
            litefs-py.nixosModules.default
            machine
            # What `nixos-generate-config` wrote on each of them.
            (./. + "/hardware-${name}.nix")
          ];
        }
      ) (import ./machines.nix);
    };
}
