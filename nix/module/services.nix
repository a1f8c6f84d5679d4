# The services, from nix/units, and what they find on the machine.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkForce mkIf mkMerge;
  cfg = config.services.code-server-multi;
  units = import ../units.nix { inherit lib; };

  # Its name stays the same from one build of the system to the next, so that an upgrade of Podman makes no difference to
  # the workspaces that run, and what they stop by can't have been garbage-collected.
  programs = "code-server-multi/programs";
  path = lib.concatStringsSep ":" [
    "/run/wrappers/bin"
    "/etc/${programs}/bin"
  ];

  base = if cfg.workspaceBase == null then null else toString cfg.workspaceBase;

  service =
    file:
    mkMerge [
      (units.service (lib.getExe cfg.package) file)
      {
        # One restart in place of a stop and, later, a start with the new configuration: the socket would start the old one.
        stopIfChanged = false;
      }
    ];

  # Where else the daemon writes: what the unit's own line names is the default of workspace_base.
  snippets = cfg.settings.nginx.snippet_dir or null;
  writes = lib.optional (base != null) base ++ lib.optional (snippets != null) snippets;
in
{
  config = mkIf cfg.enable {
    systemd.services = {
      code-server-multi = mkMerge [
        (service ../units/code-server-multi.service)
        {
          environment.PATH = mkForce path;
          # The file's name never changes, so another content is a reload.
          reloadTriggers = [ config.environment.etc."code-server-multi/config.toml".source ];
        }
        (mkIf (writes != [ ]) {
          serviceConfig.ReadWritePaths = map (place: "-${place}") (
            writes ++ lib.optional (base == null) "/var/lib/vscode"
          );
        })
      ];
      code-server-multi-gateway = service ../units/code-server-multi-gateway.service;
    };
    systemd.sockets.code-server-multi-gateway = units.socket ../units/code-server-multi-gateway.socket;

    systemd.tmpfiles.settings."10-code-server-multi" =
      let
        all = units.tmpfiles ../units/code-server-multi.tmpfiles.conf;
        # A directory of the admin's keeps the mode and the owner that it has; one that isn't there gets these.
        admins.d = {
          mode = ":0700";
          user = ":root";
          group = ":root";
          age = "-";
        };
      in
      if base == null then all else removeAttrs all [ "/var/lib/vscode" ] // { ${base} = admins; };

    environment.etc.${programs}.source = pkgs.buildEnv {
      name = "code-server-multi-programs";
      # The module's Podman has its helpers built in; systemd is there for journalctl, nginx for `csm doctor`.
      paths = [
        config.virtualisation.podman.package
        pkgs.catatonit
        pkgs.crun
        pkgs.passt
        config.systemd.package
        config.services.nginx.package
      ];
      pathsToLink = [ "/bin" ];
    };
    # Where what containers print is kept, and how much of it.
    environment.etc."systemd/journald@code-server-multi.conf".source =
      pkgs.writeText "code-server-multi.journald.conf" (
        builtins.readFile ../units/code-server-multi.journald.conf
      );
    # Who may be trusted with an image (policy.json): nothing is loaded without it.
    virtualisation.containers.enable = true;

    environment.systemPackages = [ cfg.package ];
  };
}
