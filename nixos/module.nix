# `services.litefs-py`: the unit is the package's own (packaging/litefs-py.service); what stands here is what
# NixOS must add.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib)
    mkEnableOption
    mkIf
    mkMerge
    mkOption
    types
    ;
  cfg = config.services.litefs-py;
  format = pkgs.formats.yaml { };
  program = lib.getExe cfg.package;

  # What is null is left out: the daemon's own default, or its complaint.
  said = lib.filterAttrsRecursive (_: value: value != null) cfg.settings;

  option = type: description: mkOption { inherit type description; };
  # One with a default; and one that may be left out.
  string = default: description: option types.str description // { inherit default; };
  text = description: option (types.nullOr types.str) description // { default = null; };
  hostName =
    description:
    string config.networking.hostName description
    // {
      defaultText = lib.literalExpression "config.networking.hostName";
    };

  # Checked when the system is built, not when it is switched to.
  configuration =
    pkgs.runCommand "litefs-py.yml" { source = format.generate "litefs-py.yml" said; }
      ''
        ${program} config check $source
        cp $source $out
      '';

  meshPort = lib.toInt (lib.last (lib.splitString ":" cfg.settings.mesh.listen));
  mountPoint = cfg.settings.mount.path;

  # Files that hold secrets, by the option that names them.
  secrets =
    lib.optionalAttrs (cfg.join != null) { "join.tokenFile" = cfg.join.tokenFile; }
    // lib.optionalAttrs (cfg.environmentFile != null) { environmentFile = cfg.environmentFile; }
    // lib.filterAttrs (_: file: file != null) {
      "settings.mesh.tls.key" = cfg.settings.mesh.tls.key;
      "settings.mesh.tls.ca_key" = cfg.settings.mesh.tls.ca_key or null;
      "settings.api.token_file" = cfg.settings.api.token_file or null;
    };
  withLitefs = cfg.engine == "litefs";

  inStore = file: lib.hasPrefix builtins.storeDir (toString file);
in
{
  options.services.litefs-py = {
    enable = mkEnableOption "litefs-py, SQLite on more than one machine";

    package = mkOption {
      type = types.package;
      # No overlay is needed, which a machine whose packages are given (a VM test) would refuse.
      default = pkgs.litefs-py or (pkgs.callPackage ./package.nix { });
      defaultText = lib.literalExpression "pkgs.litefs-py, of the overlay if there is one";
      description = "The litefs-py package to use.";
    };

    engine = mkOption {
      type = types.enum [
        "embedded"
        "litefs"
      ];
      default = "embedded";
      description = ''
        What replicates the databases: the daemon itself, or an unmodified LiteFS under it (docs/litefs.md). Where the
        configuration is the machine's own, it has to say the same.
      '';
    };

    litefsPackage = lib.mkPackageOption pkgs "litefs" { nullable = true; };

    declarative = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether `/etc/litefs-py/config.yml` is made from `settings`. Otherwise it is the machine's own, written by
        `litefs-py init`, `litefs-py join`, or by `join` below; the service starts once it is there.
      '';
    };

    settings = mkOption {
      default = { };
      description = "The configuration (docs/configuration.md); with `declarative` only.";
      type = types.submodule {
        freeformType = format.type;
        options = {
          cluster = text "Name of the cluster.";
          bootstrap = mkOption {
            type = types.bool;
            default = false;
            description = "Whether this machine begins the cluster; true on one of them.";
          };
          node = mkOption {
            default = null;
            description = "Which member this machine is.";
            type = types.nullOr (
              types.submodule {
                options = {
                  id = option types.ints.positive "Its number, never used again for another one.";
                  name = hostName "Its name.";
                };
              }
            );
          };
          members = mkOption {
            default = null;
            description = "All members, this machine included; the same list on every one.";
            example = lib.literalExpression ''[ { id = 1; name = "n1"; address = "10.0.0.1:4321"; } ]'';
            type = types.nullOr (
              types.listOf (
                types.submodule {
                  freeformType = format.type;
                  options = {
                    id = option types.ints.positive "The member's number.";
                    name = option types.str "The member's name, as in its certificate.";
                    address = option types.str "Where the other members reach it: `host:port`.";
                  };
                }
              )
            );
          };
          data_dir = string "/var/lib/litefs-py" "Folder of all that the node keeps.";
          mount = mkOption {
            default = { };
            description = "Where applications find the databases.";
            type = types.submodule {
              freeformType = format.type;
              options = {
                path = string "/litefs" "The mount point.";
                owner = string "root" "Owner of the files.";
                group = string "root" "Group of the files.";
                mode = text "Mode of the files, in octal, as text.";
              };
            };
          };
          mesh = mkOption {
            default = { };
            description = "How the nodes talk to each other.";
            type = types.submodule {
              freeformType = format.type;
              options = {
                listen = string "0.0.0.0:4321" "Address and port to listen on.";
                tls = mkOption {
                  default = { };
                  description = "The certificates, by their files.";
                  type = types.submodule {
                    freeformType = format.type;
                    options = {
                      ca = text "Certificate of the cluster's CA.";
                      cert = text "This machine's certificate.";
                      key = text "Its key; not in the store.";
                    };
                  };
                };
              };
            };
          };
        };
      };
    };

    join = mkOption {
      default = null;
      description = ''
        Joins a cluster by a token when the machine starts without a configuration. What `litefs-py join` is told.
      '';
      type = types.nullOr (
        types.submodule {
          options = {
            tokenFile = mkOption {
              type = types.path;
              example = "/run/secrets/litefs-py-token";
              description = "File that holds the token; not in the store.";
            };
            servers = mkOption {
              type = types.nonEmptyListOf types.str;
              example = [ "10.0.0.1:4321" ];
              description = "Nodes to ask, one after the other.";
            };
            name = hostName "This node's name.";
            address = mkOption {
              type = types.str;
              example = "10.0.0.2:4321";
              description = "Where the other nodes reach this one.";
            };
          };
        }
      );
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to open the port of the mesh. The API stays on loopback.";
    };

    environmentFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      description = "Environment of the daemon (systemd.exec(5)); not in the store.";
    };

    users = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "myapp" ];
      description = "Services that use the databases: started after the mount is there, stopped before it goes.";
    };
  };

  config = mkIf cfg.enable (mkMerge [
    {
      assertions =
        lib.mapAttrsToList (option: file: {
          assertion = !inStore file;
          message = "services.litefs-py.${option} is in the Nix store, which everyone can read: name a file outside, as text.";
        }) secrets
        ++ [
          {
            assertion = !(cfg.declarative && cfg.join != null);
            message = "services.litefs-py: `join` writes the configuration, `declarative` makes it from `settings`: choose one.";
          }
          {
            assertion = withLitefs -> cfg.litefsPackage != null;
            message = "services.litefs-py: `engine = \"litefs\"` needs `litefsPackage`, and that is null.";
          }
          {
            assertion = !(config.fileSystems ? ${mountPoint});
            message = "services.litefs-py: fileSystems.\"${mountPoint}\" claims the mount point of the databases.";
          }
        ];

      environment.systemPackages = [ cfg.package ];
      # The kernel's module; and fusermount3, of which LiteFS has need.
      boot.kernelModules = [ "fuse" ];
      programs.fuse.enable = lib.mkDefault true;
      users.groups.litefs-py = { };
      networking.firewall.allowedTCPPorts = mkIf cfg.openFirewall [ meshPort ];

      systemd.packages = [ cfg.package ];
      # Where the daemon looks for LiteFS, and LiteFS for fusermount3.
      systemd.services.litefs-py = {
        path = lib.optionals (withLitefs && cfg.litefsPackage != null) [
          cfg.litefsPackage
          pkgs.fuse3
        ];
        wantedBy = [ "multi-user.target" ];
        serviceConfig.EnvironmentFile = mkIf (cfg.environmentFile != null) cfg.environmentFile;
      };
    }

    (mkIf cfg.declarative {
      services.litefs-py.settings.engine = lib.mkDefault cfg.engine;
      environment.etc."litefs-py/config.yml".source = configuration;
      systemd.services.litefs-py.restartTriggers = [ configuration ];
    })

    (mkIf (cfg.join != null) {
      systemd.services.litefs-py-join = {
        description = "Join the litefs-py cluster";
        requiredBy = [ "litefs-py.service" ];
        before = [ "litefs-py.service" ];
        wants = [ "network-online.target" ];
        after = [ "network-online.target" ];
        unitConfig.ConditionPathExists = "!/etc/litefs-py/config.yml";
        serviceConfig = {
          Type = "oneshot";
          Restart = "on-failure";
          RestartSec = 5;
        };
        # The secret may come later: it is looked for again.
        script = ''
          token=${lib.escapeShellArg cfg.join.tokenFile}
          if [ ! -f "$token" ]; then
            echo "there is no $token: services.litefs-py.join.tokenFile names the file of what" \
              "'litefs-py token create' prints on another node" >&2
            exit 1
          fi
          case $(stat -Lc %a "$token") in
          *00) ;;
          *)
            echo "others than root can read $token, and who has it can join: chmod 600 it" >&2
            exit 1
            ;;
          esac
          ${program} join - --server ${lib.escapeShellArg (lib.concatStringsSep "," cfg.join.servers)} \
            --name ${lib.escapeShellArg cfg.join.name} --address ${lib.escapeShellArg cfg.join.address} \
            < "$token"
        '';
      };
    })

    {
      systemd.services = lib.genAttrs cfg.users (_: {
        requires = [ "litefs-py.target" ];
        after = [ "litefs-py.target" ];
      });
    }
  ]);
}
