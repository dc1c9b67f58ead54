# `nix flake check`: the build, lints, tests, the module over whole systems, and the scenarios on machines.
{
  self,
  lib,
  pkgs,
  system,
  nixosSystem,
}:

let
  inherit (pkgs) litefs-py runCommand;

  # Of cargo over the whole tree, for what the package leaves out.
  cargo =
    name: inputs: command:
    litefs-py.overrideAttrs (package: {
      pname = "litefs-py-${name}";
      src = "${self}";
      nativeBuildInputs = package.nativeBuildInputs ++ inputs;
      buildPhase = command;
      installPhase = "touch $out";
      dontFixup = true;
    });

  over =
    name: inputs: script:
    runCommand "litefs-py-${name}" { nativeBuildInputs = inputs; } ''
      cp -r ${self} source
      chmod -R u+w source
      cd source
      ${script}
      touch $out
    '';

  python = pkgs.python3.withPackages (packages: [
    packages.litefs-py
    packages.litefs-django
    packages.litefs-fastapi
    packages.aiosqlite
    packages.anyio
    packages.django-debug-toolbar
    packages.flask
    packages.hatchling
    packages.hypothesis
    packages.jsonschema
    packages.pytest
    packages.ruff
    packages.sqlmodel
    packages.uvicorn
  ]);

  # That a whole system with the module evaluates, down to what would be built; nothing of it is built.
  evaluated =
    name: module:
    let
      machine = nixosSystem {
        modules = [
          self.nixosModules.default
          module
          {
            nixpkgs.hostPlatform = system;
            boot.isContainer = true;
            documentation.enable = false;
            system.stateVersion = "26.05";
          }
        ];
      };
    in
    pkgs.writeText "litefs-py-module-${name}" (
      builtins.unsafeDiscardStringContext machine.config.system.build.toplevel.drvPath
    );

  fleet = import ./examples/fleet/machines.nix;
  modules = {
    declarative = import ./examples/declarative.nix;
    litefs.services.litefs-py = {
      enable = true;
      engine = "litefs";
    };
  }
  // lib.mapAttrs' (name: lib.nameValuePair "fleet-${name}") fleet;
in
{
  package = litefs-py;
  clippy = cargo "clippy" [
    pkgs.clippy
  ] "cargo clippy --offline --locked --all-targets -- -D warnings";
  # Those that mount, or start programs, want a machine: the scenarios, and `make test`.
  tests = cargo "tests" [ ] "cargo test --offline --locked --lib";
  python-tests = over "python-tests" [ python ] ''
    cd python
    export LITEFS_PY=${lib.getExe litefs-py} HOME=$TMPDIR
    # Of what nixpkgs has, not of the lock file: a warning of another version is no failure.
    python -m pytest -q -p no:cacheprovider -W default
  '';
  lint =
    over "lint"
      [
        pkgs.deadnix
        pkgs.nixfmt
        pkgs.shellcheck
      ]
      ''
        nixfmt --check flake.nix $(find nixos images -name '*.nix')
        deadnix --fail flake.nix nixos images
        shellcheck scripts/*.sh images/install images/machine/*
      '';
}
// lib.mapAttrs' (name: module: lib.nameValuePair "module-${name}" (evaluated name module)) modules
// import ./vm-checks.nix { inherit lib pkgs; }
