# Of the appliance, and of the medium that installs it: nobody gets in by a password; the console is on the screen and
# on the serial port.
{
  services.openssh.settings = {
    PasswordAuthentication = false;
    KbdInteractiveAuthentication = false;
  };
  boot.kernelParams = [
    "console=tty0"
    "console=ttyS0,115200"
  ];
}
