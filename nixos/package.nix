# The program, with its unit, manual and completions. `pkgsStatic.litefs-py` is the same without any library.
{
  lib,
  rustPlatform,
  installShellFiles,
  stdenv,
}:

let
  manifest = lib.importTOML ../Cargo.toml;
in
rustPlatform.buildRustPackage {
  pname = manifest.package.name;
  inherit (manifest.package) version;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../src
      ../stand-in
      ../packaging/litefs-py.service
      ../packaging/litefs-py.target
      # Cargo.toml names some of them.
      ../tests
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;
  buildType = "dist";

  nativeBuildInputs = [ installShellFiles ];

  # They mount: nixos/checks.nix has machines for that.
  doCheck = false;

  postInstall = ''
    install -Dm644 -t $out/lib/systemd/system packaging/litefs-py.service packaging/litefs-py.target
    substituteInPlace $out/lib/systemd/system/litefs-py.service --replace-fail /usr/bin $out/bin
  ''
  + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    $out/bin/litefs-py man man1
    installManPage man1/*
    for shell in bash zsh fish; do
      installShellCompletion --cmd litefs-py --$shell <($out/bin/litefs-py completions $shell)
    done
  '';

  meta = {
    inherit (manifest.package) description;
    license = lib.licenses.mit;
    mainProgram = "litefs-py";
    platforms = lib.platforms.linux;
  };
}
