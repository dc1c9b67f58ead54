# The three Python packages, for `pythonPackagesExtensions`. The output `dist` of each has the wheel; that of
# litefs-py carries the static program, for a dynamic one would point into the store.
final: _:
let
  package =
    name: dependencies: environment:
    final.callPackage (
      {
        lib,
        buildPythonPackage,
        hatchling,
      }:
      let
        source = ../python + "/${name}";
        inherit (lib.importTOML (source + "/pyproject.toml")) project;
      in
      buildPythonPackage {
        pname = project.name;
        inherit (project) version;
        pyproject = true;
        src = lib.fileset.toSource {
          root = source;
          fileset = lib.fileset.difference source (lib.fileset.maybeMissing (source + "/tests"));
        };
        env = environment;
        build-system = [ hatchling ];
        inherit dependencies;
        # By nixos/checks.nix, of all three together.
        doCheck = false;
        pythonImportsCheck = [ (lib.replaceStrings [ "-" ] [ "_" ] name) ];
        meta = {
          inherit (project) description;
          license = lib.licenses.mit;
          platforms = lib.platforms.linux;
        };
      }
    ) { };
in
{
  litefs-py = package "litefs-py" [
    final.httpx
    final.pydantic
    final.pyyaml
  ] { LITEFS_PY_BINARY = "${final.pkgs.pkgsStatic.litefs-py}/bin/litefs-py"; };
  litefs-django = package "litefs-django" [ final.django final.litefs-py ] { };
  litefs-fastapi = package "litefs-fastapi" (
    [
      final.fastapi
      final.litefs-py
      final.sqlalchemy
    ]
    ++ final.sqlalchemy.optional-dependencies.asyncio
  ) { };
}
