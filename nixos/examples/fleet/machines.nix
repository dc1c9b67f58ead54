# Three machines as modules: the first is set up by `litefs-py init`, the others join by tokens that a secret manager
# has put into /run/secrets. myapp is an application of the operator's.
let
  node =
    number: extra:
    { ... }:
    {
      imports = [ extra ];
      networking.hostName = "n${toString number}";
      services.litefs-py = {
        enable = true;
        openFirewall = true;
        users = [ "myapp" ];
      };
      systemd.services.myapp.serviceConfig = {
        ExecStart = "/run/current-system/sw/bin/myapp /litefs/app.db";
        # What uses the mount may be hardened in every way.
        ProtectSystem = "strict";
        ReadWritePaths = [ "/litefs" ];
      };
    };
  joins = number: {
    services.litefs-py.join = {
      tokenFile = "/run/secrets/litefs-py-token";
      servers = [ "10.0.0.1:4321" ];
      address = "10.0.0.${toString number}:4321";
    };
  };
in
{
  n1 = node 1 { };
  n2 = node 2 (joins 2);
  n3 = node 3 (joins 3);
}
