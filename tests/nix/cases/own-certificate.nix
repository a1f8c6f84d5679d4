# Nothing public, secrets by agenix: a certificate of one's own, no IPv6, other sites on the same nginx, one unit tightened by the admin.
{
  services.code-server-multi = {
    enable = true;
    domain = "code.lan";
    tls.certificate = "/etc/ssl/code/fullchain.pem";
    tls.certificateKey = "/etc/ssl/code/privkey.pem";
    image.archive = "/srv/code-server-multi/workspace.tar";
    image.name = "localhost/code-server-multi/workspace:4.139.1-4";
    users.dan = {
      port = 8101;
      # Where agenix puts secrets.
      environment.GH_TOKEN = "/run/agenix/dan-github";
    };
    # What is set here wins over the option.
    settings.workspaces.dan.port = 8102;
  };

  networking.enableIPv6 = false;
  services.nginx.virtualHosts."wiki.lan".root = "/srv/wiki";
  services.nginx.group = "web";
  systemd.services.code-server-multi-gateway.serviceConfig = {
    TasksMax = 32;
    MemoryMax = "256M";
  };
}
