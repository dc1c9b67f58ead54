# One machine of three whose configuration and certificates are the operator's (docs/deployment.md,
# "Certificates from elsewhere").
{ ... }:
{
  networking.hostName = "n1";
  services.litefs-py = {
    enable = true;
    declarative = true;
    openFirewall = true;
    settings = {
      cluster = "app";
      bootstrap = true;
      node = {
        id = 1;
        name = "n1";
      };
      members =
        map
          (number: {
            id = number;
            name = "n${toString number}";
            address = "10.0.0.${toString number}:4321";
          })
          [
            1
            2
            3
          ];
      mesh.tls = {
        ca = "/run/secrets/ca.crt";
        cert = "/run/secrets/node.crt";
        key = "/run/secrets/node.key";
      };
    };
  };
}
