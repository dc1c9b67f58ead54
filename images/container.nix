# The container image by Nix; `make oci` makes one without.
{
  cacert,
  dockerTools,
  pkgsStatic,
}:

dockerTools.buildLayeredImage {
  name = "litefs-py";
  tag = pkgsStatic.litefs-py.version;
  contents = [
    pkgsStatic.litefs-py
    cacert
    dockerTools.fakeNss
  ];
  extraCommands = ''
    mkdir -p etc/litefs-py var/lib/litefs-py run/litefs-py litefs
    mkdir -m 1777 tmp
  '';
  config = {
    Entrypoint = [ "/bin/litefs-py" ];
    Cmd = [ "node" ];
    ExposedPorts = {
      "4321/tcp" = { };
      "8008/tcp" = { };
    };
    Volumes."/var/lib/litefs-py" = { };
    StopSignal = "SIGTERM";
  };
}
