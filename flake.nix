{
  description = "SQLite on more than one machine: Raft, a FUSE mount, and any unmodified program";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      eachSystem =
        make:
        lib.genAttrs systems (
          system: make system (nixpkgs.legacyPackages.${system}.extend self.overlays.default)
        );
    in
    {
      overlays.default = import ./nixos/overlay.nix;

      nixosModules.default = ./nixos/module.nix;
      # What the images are: for a flake of an operator's own, with the keys of who may log in.
      nixosModules.appliance = ./images/appliance.nix;

      # `nix flake init -t` of this flake.
      templates.default = {
        path = ./nixos/examples/fleet;
        description = "A fleet of three machines";
      };

      packages = eachSystem (
        system: pkgs:
        let
          inherit (pkgs.python3Packages) litefs-py litefs-django litefs-fastapi;
        in
        {
          inherit (pkgs) litefs-py;
          default = pkgs.litefs-py;
          static = pkgs.pkgsStatic.litefs-py;
          container = pkgs.callPackage ./images/container.nix { };
          # For `python3.withPackages` there is the overlay.
          python-litefs-py = litefs-py;
          python-litefs-django = litefs-django;
          python-litefs-fastapi = litefs-fastapi;
          wheels = pkgs.symlinkJoin {
            name = "litefs-py-wheels-${litefs-py.version}";
            paths = [
              litefs-py.dist
              litefs-django.dist
              litefs-fastapi.dist
            ];
          };
          docs = pkgs.runCommand "litefs-py-docs-${litefs-py.version}" { } ''
            mkdir -p $out/share/doc
            cp -r ${./docs} $out/share/doc/litefs-py
          '';
        }
        // import ./images {
          inherit self lib system;
          inherit (nixpkgs.lib) nixosSystem;
        }
      );

      checks = eachSystem (
        system: pkgs:
        import ./nixos/checks.nix {
          inherit
            self
            lib
            pkgs
            system
            ;
          inherit (nixpkgs.lib) nixosSystem;
        }
      );

      devShells = eachSystem (
        _: pkgs: {
          default = pkgs.mkShell {
            inputsFrom = [ pkgs.litefs-py ];
            packages = with pkgs; [
              clippy
              rustfmt
              python3
              ruff
              shellcheck
              sqlite
              deadnix
              nixfmt
            ];
          };
        }
      );

      apps = eachSystem (
        system: pkgs:
        let
          program = name: text: {
            type = "app";
            meta.description = name;
            program = lib.getExe (
              pkgs.writeShellApplication {
                inherit name text;
                runtimeInputs = with pkgs; [
                  litefs-py
                  python3
                  sqlite
                  fuse3
                ];
              }
            );
          };
        in
        {
          default = self.apps.${system}.dev;
          dev = program "litefs-py-dev" ''exec litefs-py dev "$@"'';
          # What `make demo` runs, with the program of this flake.
          demo = program "litefs-py-demo" ''
            exec python3 ${self}/demo/demo.py --program "$(command -v litefs-py)" "$@"
          '';
        }
      );

      formatter = eachSystem (_: pkgs: pkgs.nixfmt-tree);
    };
}
