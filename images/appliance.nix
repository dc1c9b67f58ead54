# A machine that is a node and nothing else: nothing secret in it, nobody gets in by a password. Its identity,
# keys and configuration are made on the machine.
{ lib, ... }:
{
  networking.hostName = lib.mkDefault "";
  networking.firewall.enable = true;

  services.litefs-py = {
    enable = true;
    openFirewall = true;
  };

  users.mutableUsers = false;
  users.allowNoPasswordLogin = true;
  services.openssh = {
    enable = true;
    settings = {
      PasswordAuthentication = false;
      KbdInteractiveAuthentication = false;
      PermitRootLogin = "prohibit-password";
    };
  };

  boot.kernelParams = [
    "console=tty0"
    "console=ttyS0,115200"
  ];

  image.modules = {
    # Keys, name and network come from the cloud's user data.
    qemu-efi = {
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
    iso.hardware.enableRedistributableFirmware = true;
  };

  system.stateVersion = "26.05";
}
