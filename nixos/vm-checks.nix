# Each scenario of vm-tests on machines of NixOS, with both engines. `pkgs` has litefs-py.
{ lib, pkgs }:

let
  prelude = builtins.readFile ../vm-tests/prelude.py;

  # The file of each scenario by its name: those that Debian runs too, and what is about NixOS alone.
  filesOf =
    folder:
    lib.mapAttrs' (file: _: lib.nameValuePair (lib.removeSuffix ".py" file) (folder + "/${file}")) (
      lib.filterAttrs (file: _: lib.hasSuffix ".py" file) (builtins.readDir folder)
    );
  scenarios = filesOf ../vm-tests/scenarios // filesOf ../vm-tests/nixos;

  # What a scenario says in its first lines: `# machines: n1 n2 n3`, `# engines: embedded`.
  said =
    what: file:
    let
      lines = lib.filter (lib.hasPrefix "# ${what}: ") (lib.splitString "\n" (builtins.readFile file));
    in
    if lines == [ ] then
      [ ]
    else
      lib.splitString " " (lib.removePrefix "# ${what}: " (builtins.head lines));

  machine = {
    imports = [ ./module.nix ];
    services.litefs-py = {
      enable = true;
      # So that LiteFS is where the daemon looks for it. Which engine it is, the configuration says, which the
      # scenarios write.
      engine = "litefs";
      openFirewall = true;
    };
    # What scenarios use; and the Django site of one.
    environment.systemPackages = [
      pkgs.curl
      pkgs.nftables
      pkgs.sqlite
      (pkgs.python3.withPackages (packages: [ packages.litefs-django ]))
    ];
    systemd.tmpfiles.rules = [ "L+ /opt/project - - - - ${../python/examples/django}" ];
    virtualisation.memorySize = 1024;
  };

  # The same program under another path: what an upgrade is to a unit.
  newer.specialisation.newer.configuration.services.litefs-py.package = lib.mkForce (
    pkgs.litefs-py.overrideAttrs (package: {
      postInstall = package.postInstall + "touch $out/share/newer\n";
    })
  );

  # Machines take long to evaluate, and half a GB each: once for all scenarios on the same ones. Each scenario is a
  # test of its own of them; the driver reads its script from a file that the test names.
  machines = lib.listToAttrs (
    map (
      file:
      lib.nameValuePair (kindOf file) (
        pkgs.testers.runNixOSTest {
          name = "litefs-py-${kindOf file}";
          nodes = lib.genAttrs (said "machines" file) (_: {
            imports = [ machine ] ++ lib.optional (wantsNewer file) newer;
          });
          testScript = ''
            import os
            exec(compile(open(os.environ["SCENARIO"]).read(), "scenario", "exec"), globals())
          '';
          globalTimeout = 15 * 60;
        }
      )
    ) (lib.attrValues scenarios)
  );
  wantsNewer = file: said "wants" file == [ "newer" ];
  kindOf =
    file: lib.concatStringsSep "-" (said "machines" file ++ lib.optional (wantsNewer file) "newer");

  scenario =
    engine: name: file:
    machines.${kindOf file}.config.rawTestDerivation.overrideAttrs {
      name = "vm-test-run-litefs-py-${name}-${engine}";
      SCENARIO = pkgs.writeText "${name}-${engine}.py" (
        "ENGINE = \"${engine}\"\n" + prelude + builtins.readFile file
      );
    };

  isFor =
    engine: file:
    let
      engines = said "engines" file;
    in
    engines == [ ] || lib.elem engine engines;

  checksOf =
    engine: prefix:
    lib.mapAttrs' (name: file: lib.nameValuePair "${prefix}${name}" (scenario engine name file)) (
      lib.filterAttrs (_: isFor engine) scenarios
    );
in
checksOf "embedded" "vm-" // checksOf "litefs" "vm-litefs-"
