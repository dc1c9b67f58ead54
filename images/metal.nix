# The appliance on the disk of a machine, as images/install lays it out.
{
  boot.loader.systemd-boot.enable = true;
  # The firmware finds the loader by its usual name; nothing is written into the machine's own memory.
  boot.loader.efi.canTouchEfiVariables = false;
  hardware.enableAllHardware = true;
  hardware.enableRedistributableFirmware = true;
  fileSystems = {
    "/" = {
      device = "/dev/disk/by-label/nixos";
      fsType = "ext4";
      autoResize = true;
    };
    "/boot" = {
      device = "/dev/disk/by-label/ESP";
      fsType = "vfat";
      options = [ "umask=0077" ];
    };
  };
}
