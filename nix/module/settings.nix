# From options to the daemon's configuration file, which is checked while the system is built.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    filterAttrs
    hasPrefix
    mapAttrs
    mkDefault
    mkIf
    partition
    ;
  cfg = config.services.code-server-multi;
  keys = import ./keys.nix;
  toml = pkgs.formats.toml { };

  # Paths go into the file as text: a path literal would be copied into the store.
  text = value: if builtins.isPath value then toString value else value;
  defaults =
    values: mapAttrs (_: value: mkDefault (text value)) (filterAttrs (_: value: value != null) values);
  written = table: from: defaults (mapAttrs (_: option: from.${option}) table);

  # Where secret managers put secrets: a value below one of these is the secret's file. So is what a secret was given as a
  # path of its own.
  secretPlaces = lib.unique [
    "/run/secrets"
    "/run/secrets-for-users"
    (config.sops.defaultSymlinkPath or "/run/secrets")
    (config.age.secretsDir or "/run/agenix")
  ];
  secretPaths = map (secret: secret.path) (
    lib.attrValues (config.sops.secrets or { }) ++ lib.attrValues (config.age.secrets or { })
  );
  isSecret =
    value: lib.any (place: hasPrefix "${place}/" value) secretPlaces || lib.elem value secretPaths;

  variables =
    from:
    let
      split = partition (name: isSecret from.environment.${name}) (lib.attrNames from.environment);
      pick = names: lib.genAttrs names (name: from.environment.${name});
      secret = pick split.right // from.secretEnvironment;
    in
    lib.optionalAttrs (split.wrong != [ ]) { environment = defaults (pick split.wrong); }
    // lib.optionalAttrs (secret != { }) { secret_environment = defaults secret; };

  workspace =
    _: from:
    written keys.workspace from
    // variables from
    // lib.optionalAttrs (!from.enable) { enabled = mkDefault false; };

  # Podman fetches no short names, since a registry that answers first could be anybody's.
  fullName =
    name:
    let
      parts = lib.splitString "/" name;
      registry = lib.head parts;
      isRegistry = lib.length parts > 1 && (builtins.match ".*[.:].*|localhost" registry != null);
    in
    if isRegistry then
      name
    else if lib.length parts == 1 then
      "docker.io/library/${name}"
    else
      "docker.io/${name}";

  image =
    if cfg.baseImage != null then
      {
        name = fullName cfg.baseImage;
        pull = "missing";
      }
    else if cfg.image.name != null || cfg.image.archive != null then
      { inherit (cfg.image) name archive pull; }
    else
      {
        name = "${cfg.image.package.imageName}:${cfg.image.package.imageTag}";
        archive = "${cfg.image.package}";
      };

  certificate =
    if cfg.acmeHost != null then
      let
        directory = config.security.acme.certs.${cfg.acmeHost}.directory;
      in
      {
        certificate = "${directory}/fullchain.pem";
        certificate_key = "${directory}/key.pem";
      }
    else
      {
        certificate = cfg.tls.certificate;
        certificate_key = cfg.tls.certificateKey;
      };

  unchecked = toml.generate "code-server-multi.toml" cfg.settings;

  # The same code that the daemon uses; every problem is named, with its key. A foreign machine's binary can't be run here.
  checked =
    if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
      pkgs.runCommand "code-server-multi-config.toml" { } ''
        ${lib.getExe cfg.package} check-config ${unchecked}
        cp ${unchecked} $out
      ''
    else
      unchecked;
in
{
  config = mkIf cfg.enable {
    services.code-server-multi.settings = lib.mkMerge [
      (written keys.top cfg)
      {
        image = defaults image;
        nginx = defaults (
          certificate
          // {
            group = config.services.nginx.group;
            # The daemon listens on both families unless it is told.
            listen = if config.networking.enableIPv6 then null else [ "0.0.0.0:443" ];
          }
        );
        gateway = written keys.gateway cfg;
        defaults = written keys.limits cfg.defaults // variables cfg.defaults;
        workspaces = mapAttrs workspace cfg.users;
      }
    ];

    environment.etc."code-server-multi/config.toml".source = checked;
  };
}
