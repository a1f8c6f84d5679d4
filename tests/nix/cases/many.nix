# Fifty people, everything that there is an option for, and the rest by `settings`.
{ lib, ... }:
{
  services.code-server-multi = {
    enable = true;
    domain = "workspaces.engineering.example.org";
    tls.certificate = "/var/lib/certificates/fullchain.pem";
    tls.certificateKey = "/run/secrets/workspaces-key.pem";
    workspaceBase = "/srv/workspaces";
    startOnBoot = "never";
    reservedPorts = [
      51820
      5353
    ];
    sessionLifetime = "1h 30m";
    image = {
      name = "registry.example.org/team/workspace:7";
      archive = "/srv/images/workspace.tar";
      pull = "missing";
    };
    defaults = {
      memoryLimit = "2G";
      memorySoftLimit = "1536M";
      memoryLow = "128M";
      cpuLimit = 0.5;
      cpuWeight = 50;
      tasksMax = 2048;
      apply = "now";
      environment.LANG = "de_DE.UTF-8";
      secretEnvironment.ANTHROPIC_API_KEY = "/run/secrets/anthropic";
    };
    users = lib.genAttrs (map (number: "person-${toString number}") (lib.range 1 49)) (_: { }) // {
      wolfeschlegelsteinhausenber = {
        account = "wolfe";
        passwordFile = "/run/secrets/wolfe";
        port = 8101;
        memoryLimit = 4294967296;
        memorySoftLimit = "3G";
        memoryLow = 0;
        cpuLimit = 2;
        cpuWeight = 200;
        tasksMax = 8192;
        apply = "pending";
        environment.EDITOR = "vim";
        secretEnvironment.GH_TOKEN = "/run/secrets/wolfe-github";
      };
    };
    settings.nginx = {
      snippet_dir = "/srv/nginx/code-server-multi";
      unit = "nginx.service";
      listen = [
        "192.0.2.1:8443"
        "[2001:db8::1]:8443"
      ];
      public_port = 8443;
      plain_http1 = false;
    };
    openFirewall = true;
  };

  users.users.wolfe = {
    isSystemUser = true;
    group = "wolfe";
    autoSubUidGidRange = true;
  };
  users.groups.wolfe = { };
  services.nginx.eventsConfig = "worker_connections 8192;";
}
