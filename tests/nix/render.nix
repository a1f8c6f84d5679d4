# What a configuration comes to, as files: the text that NixOS would write, as far as this module has a part in it.
{ lib }:
let
  inherit (lib)
    concatLists
    concatMapStrings
    concatStringsSep
    isAttrs
    isList
    mapAttrsToList
    ;

  toml = rec {
    scalar =
      value:
      if isList value then
        "[${lib.concatMapStringsSep ", " scalar value}]"
      else if isAttrs value then
        "{ ${concatStringsSep ", " (mapAttrsToList (key: one: "${name key} = ${scalar one}") value)} }"
      else
        builtins.toJSON value;
    name = key: if builtins.match "[A-Za-z0-9_-]+" key != null then key else builtins.toJSON key;
    table =
      path: value:
      let
        plain = lib.filterAttrs (_: one: !isAttrs one) value;
        tables = lib.filterAttrs (_: isAttrs) value;
        heading = lib.optionalString (
          path != [ ] && (plain != { } || tables == { })
        ) "\n[${concatStringsSep "." (map name path)}]\n";
      in
      heading
      + concatStringsSep "" (mapAttrsToList (key: one: "${name key} = ${scalar one}\n") plain)
      + concatStringsSep "" (mapAttrsToList (key: table (path ++ [ key ])) tables);
  };

  directive =
    key: value:
    concatMapStrings (
      one: "${key}=${if builtins.isBool one then lib.boolToString one else toString one}\n"
    ) (lib.toList value);
  section = name: values: "[${name}]\n${concatStringsSep "" (mapAttrsToList directive values)}";
  joined = key: values: lib.optionalAttrs (values != [ ]) { ${key} = concatStringsSep " " values; };
  unit =
    one:
    section "Unit" (
      one.unitConfig
      // lib.optionalAttrs (one.description != "") { Description = one.description; }
      // joined "After" one.after
      // joined "Before" one.before
      // joined "Documentation" one.documentation
      // joined "Requires" one.requires
      // joined "Wants" one.wants
      // joined "X-Reload-Triggers" (map toString (one.reloadTriggers or [ ]))
    );
  service =
    one:
    unit one
    + "\n[Service]\n"
    + concatStringsSep "" (
      mapAttrsToList (
        key: value: "Environment=${builtins.toJSON "${key}=${toString value}"}\n"
      ) one.environment
    )
    + concatStringsSep "" (mapAttrsToList directive one.serviceConfig);
  socket = one: unit one + "\n" + section "Socket" one.socketConfig;

  file =
    one:
    if one.source ? value then
      toml.table [ ] one.source.value
    else
      one.source.text or (toString one.source);
in
{
  toml = toml.table [ ];

  # A system as { file name = text; }.
  system =
    { config, ... }:
    let
      units =
        kind: render: suffix:
        lib.mapAttrs' (name: one: lib.nameValuePair "${name}${suffix}" (render one)) kind;
      range =
        start: kind: user:
        map (one: "${toString one.${start}}:${toString one.count}") user.${kind};
      account =
        name: user:
        concatStringsSep " " (
          [
            "user ${name} group=${user.group} home=${user.home}"
          ]
          ++ lib.optional user.isSystemUser "system"
          ++ lib.optional user.autoSubUidGidRange "subordinate=automatic"
          ++ map (one: "subuid=${one}") (range "startUid" "subUidRanges" user)
          ++ map (one: "subgid=${one}") (range "startGid" "subGidRanges" user)
        );
      group =
        name: one:
        "group ${name}${
          lib.optionalString (one.members != [ ]) " members=${concatStringsSep "," one.members}"
        }";
      tmpfiles = concatLists (
        mapAttrsToList (
          path: types:
          mapAttrsToList (type: one: "${type} ${path} ${one.mode} ${one.user} ${one.group} ${one.age}") types
        ) config.systemd.tmpfiles.settings."10-code-server-multi"
      );
      nginx = config.services.nginx;
      certificates = mapAttrsToList (
        name: one:
        "certificate ${name} group=${one.group} reload=${concatStringsSep "," one.reloadServices}"
      ) config.security.acme.certs;
      configuration = config.environment.etc."code-server-multi/config.toml".source;
      ours = lib.filterAttrs (
        name: _: lib.hasInfix "code-server-multi" name || name == "nginx" || lib.hasPrefix "acme-" name
      );
      text = list: concatMapStrings (line: "${line}\n") list;
      etc = lib.filterAttrs (
        name: _: name == "subuid" || name == "subgid" || lib.hasPrefix "systemd/journald@" name
      ) config.environment.etc;
    in
    units (ours config.systemd.services) service ".service"
    // units (ours config.systemd.sockets) socket ".socket"
    // lib.mapAttrs' (
      # No file of a store has the other character in its name.
      name: one: lib.nameValuePair (lib.replaceStrings [ "@" ] [ "-" ] (baseNameOf name)) (file one)
    ) etc
    // {
      "config.toml" = toml.table [ ] config.services.code-server-multi.settings;
      "config.build" = configuration.command;
      "accounts" = text (
        mapAttrsToList account config.users.users ++ mapAttrsToList group config.users.groups
      );
      "tmpfiles.conf" = text tmpfiles;
      "nginx.conf" = ''
        events {
          ${nginx.eventsConfig}
        }
        http {
          ${lib.optionalString (
            nginx.serverNamesHashBucketSize != null
          ) "server_names_hash_bucket_size ${toString nginx.serverNamesHashBucketSize};"}
          ${nginx.appendHttpConfig}
        }
      '';
      "machine" = text (
        [
          "reload=${lib.boolToString nginx.enableReload}"
          "firewall=${concatStringsSep "," (map toString config.networking.firewall.allowedTCPPorts)}"
          "programs=${
            concatStringsSep " " (map toString config.environment.etc."code-server-multi/programs".source.paths)
          }"
          "path=${concatStringsSep " " (map toString config.environment.systemPackages)}"
          "wanted=${
            concatStringsSep " " (
              concatLists (
                mapAttrsToList (name: one: map (by: "${by}:${name}") one.wantedBy) (
                  ours config.systemd.services // ours config.systemd.sockets
                )
              )
            )
          }"
          "stop-if-changed=${
            concatStringsSep " " (
              lib.attrNames (lib.filterAttrs (_: one: one.stopIfChanged) (ours config.systemd.services))
            )
          }"
        ]
        ++ certificates
      );
      "warnings" = text config.warnings;
    };
}
