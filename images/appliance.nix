# A machine that is a node and nothing else: nothing secret in it, nobody gets in by a password. Its identity,
# keys and configuration are made on the machine, by what /etc/litefs-py/first-boot says or by hand.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  litefs-py = config.services.litefs-py.package;
  # What the programs in images/machine call.
  tools = [
    litefs-py
    pkgs.gawk
    pkgs.getent
    pkgs.gnused
    pkgs.iproute2
    pkgs.util-linux
  ];
  program = name: "${pkgs.runtimeShell} ${./machine + "/${name}"}";
in
{
  imports = [
    ./access.nix
    ../nixos/module.nix
  ];

  networking.hostName = lib.mkDefault "";
  networking.firewall.enable = true;

  services.litefs-py = {
    enable = true;
    openFirewall = true;
  };

  systemd.services.litefs-py-first-boot = {
    description = "Make this machine a node, as /etc/litefs-py/first-boot says";
    unitConfig.ConditionPathExists = [
      "/etc/litefs-py/first-boot"
      "!/etc/litefs-py/config.yml"
    ];
    wants = [ "network-online.target" ];
    # What cloud-init writes is there.
    after = [
      "network-online.target"
      "cloud-config.service"
    ];
    wantedBy = [ "multi-user.target" ];
    path = tools;
    serviceConfig = {
      Type = "oneshot";
      ExecStart = program "first-boot";
      # The node that is asked may not be up yet.
      Restart = "on-failure";
      RestartSec = "10s";
    };
  };

  # How the node stands, above the prompt of the console.
  environment.etc."issue.d/litefs-py.issue".source = "/run/litefs-py.issue";
  systemd.services.litefs-py-console = {
    description = "Show on the console how the node stands";
    path = tools;
    serviceConfig = {
      Type = "oneshot";
      ExecStart = program "console";
      TimeoutStartSec = "30s";
    };
  };
  systemd.timers.litefs-py-console = {
    wantedBy = [ "timers.target" ];
    timerConfig = {
      OnActiveSec = "5s";
      OnUnitInactiveSec = "30s";
      AccuracySec = "5s";
    };
  };

  users.mutableUsers = false;
  users.allowNoPasswordLogin = true;
  services.openssh = {
    enable = true;
    settings.PermitRootLogin = "prohibit-password";
  };

  image.modules = {
    # Keys, name and network come from the cloud's user data.
    qemu-efi = {
      networking.useNetworkd = true;
      services.cloud-init = {
        enable = true;
        network.enable = true;
      };
      boot.growPartition = true;
    };
    raw-efi = {
      boot.growPartition = true;
      hardware.enableRedistributableFirmware = true;
    };
  };

  system.stateVersion = lib.mkDefault "26.05";
}
