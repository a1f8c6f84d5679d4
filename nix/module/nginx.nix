# nginx and its certificate. The daemon writes every server of ours; here nginx is only made to include, read and reload.
{ config, lib, ... }:
let
  inherit (lib) mkDefault mkIf;
  cfg = config.services.code-server-multi;
  units = import ../units.nix { inherit lib; };

  # Where nginx finds the daemon's files: a link that the daemon swaps.
  snippets = cfg.settings.nginx.snippet_dir or "/var/lib/code-server-multi/nginx";

  # nginx keeps names of up to this length in a bucket of its usual size.
  longest = lib.foldl' lib.max 0 (map lib.stringLength (lib.attrNames cfg.users));
  isLong = longest + 1 + lib.stringLength cfg.domain > 46;

  # What counts until a name is known is set for all sites. nginx takes it once, so an admin's own stays alone.
  isTimed = lib.hasInfix "client_header_timeout" config.services.nginx.commonHttpConfig;
  headTimeout = lib.optionalString (!isTimed) "client_header_timeout 20s;\n";

  port =
    listen:
    let
      given = builtins.match "(\\[.*]|[^:]*):([0-9]+)" listen;
    in
    if given == null then 443 else lib.toInt (lib.last given);
in
{
  config = mkIf cfg.enable {
    services.nginx = {
      enable = true;
      appendHttpConfig = ''
        include ${snippets}/current/*.conf;
        ${headTimeout}'';
      # A restart would cut every editor's connection.
      enableReload = mkDefault true;
      # More than one source may have, and an open editor window needs four.
      eventsConfig = mkDefault "worker_connections 16384;";
      serverNamesHashBucketSize = mkIf isLong (mkDefault 128);
    };

    systemd.services = lib.mkMerge [
      {
        # In the unit and not as a group of the account: nginx is restarted when the unit changes, and has the group then.
        nginx.serviceConfig = units.dropIn ../units/nginx.service.d/code-server-multi.conf [
          "RuntimeDirectory"
          "SupplementaryGroups"
        ];
      }
      (mkIf (cfg.acmeHost != null) {
        # nginx doesn't start without a certificate: this makes a self-signed one, until the first order is through.
        "acme-${cfg.acmeHost}" = {
          before = [ "nginx.service" ];
          wantedBy = [ "nginx.service" ];
        };
      })
    ];

    security.acme.certs = mkIf (cfg.acmeHost != null) {
      ${cfg.acmeHost} = {
        group = mkDefault config.services.nginx.group;
        reloadServices = [ "nginx.service" ];
      };
    };

    networking.firewall.allowedTCPPorts = mkIf cfg.openFirewall (
      lib.unique ([ 80 ] ++ map port (cfg.settings.nginx.listen or [ "0.0.0.0:443" ]))
    );
  };
}
