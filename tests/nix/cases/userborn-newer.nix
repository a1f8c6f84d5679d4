# Accounts by the userborn of NixOS 26.11, which hands out subordinate ids and writes their files itself.
{
  services.userborn.enable = true;
  system.nixos.release = "26.11";

  services.code-server-multi = {
    enable = true;
    domain = "code.example.org";
    acmeHost = "code";
    users.dan = { };
  };
  security.acme.certs.code = {
    domain = "code.example.org";
    extraDomainNames = [ "*.code.example.org" ];
    dnsProvider = "vultr";
  };
}
