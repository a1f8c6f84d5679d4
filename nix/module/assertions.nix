# What can't work is refused, and what is unwise gets a warning, while the system is evaluated. Each message begins with the
# option and says what to write instead. What only the daemon can judge, `csm check-config` says when the system is built.
{
  config,
  lib,
  ...
}:
let
  inherit (lib)
    attrNames
    concatLists
    concatMapStringsSep
    concatStringsSep
    elem
    filter
    filterAttrs
    hasPrefix
    imap0
    mapAttrsToList
    mkIf
    optional
    ;
  cfg = config.services.code-server-multi;
  own = "services.code-server-multi";
  of = name: "${own}.users.${name}";
  names = attrNames cfg.users;
  accountOf = name: workspace: if workspace.account == null then "csm-${name}" else workspace.account;

  refuse = message: {
    assertion = false;
    inherit message;
  };
  quoted = concatMapStringsSep ", " (text: "\"${text}\"");

  # [ { value, users } ]: values that more than one user has.
  shared =
    value:
    let
      given = filter (one: one.value != null) (
        mapAttrsToList (name: workspace: {
          value = value name workspace;
          inherit name;
        }) cfg.users
      );
    in
    filter (group: lib.length group.users > 1) (
      mapAttrsToList (key: group: {
        value = key;
        users = map (one: one.name) group;
      }) (lib.groupBy (one: toString one.value) given)
    );

  # --- Names, ports, accounts ---
  reserved = [
    "admin"
    "api"
    "auth"
    "portal"
    "www"
  ];
  nameProblem =
    name:
    if builtins.match "[a-z][a-z0-9]*(-[a-z0-9]+)*" name == null then
      "is no name of a workspace: write lower-case letters and digits with single hyphens between, starting with a letter, since it becomes part of an address and of an account's name"
    else if lib.stringLength name > 27 then
      "has ${toString (lib.stringLength name)} characters: write 27 at most, since the account csm-NAME may have 31"
    else if elem name reserved then
      "is reserved (as are ${
        concatStringsSep ", " (filter (one: one != name) reserved)
      }): write another name"
    else
      null;
  badNames = filter (name: nameProblem name != null) names;

  ports = map (
    twice:
    refuse "${own}.users.<name>.port: ${quoted twice.users} have the same port ${twice.value}; give each a port of its own, or leave it out where nobody comes through an SSH tunnel"
  ) (shared (_: workspace: workspace.port));

  services = [
    "root"
    "nobody"
    "csm-admin"
    "code-server-multi-ai"
    "code-server-multi-gateway"
    "code-server-multi-images"
  ];
  hasRanges =
    user:
    (user.autoSubUidGidRange && scriptless == null)
    || (user.subUidRanges != [ ] && user.subGidRanges != [ ]);
  accounts =
    map (
      twice:
      refuse "${own}.users.<name>.account: ${quoted twice.users} have the same account \"${twice.value}\"; each workspace needs one of its own, so leave `account` out to have it made"
    ) (shared accountOf)
    ++ concatLists (
      mapAttrsToList (
        name: workspace:
        let
          account = workspace.account;
          user = config.users.users.${account};
          path = "${of name}.account";
        in
        if account == null then
          optional (isAdmin config.users.users."csm-${name}") (
            refuse "${of name}: the account \"csm-${name}\" is in the group csm-admin, and so the workspace could reach every home; take it out of that group"
          )
        else if elem account services then
          [
            (refuse "${path}: \"${account}\" is no account for a workspace; leave `account` out to have \"csm-${name}\" made")
          ]
        else if !(config.users.users ? ${account}) then
          [
            (refuse "${path}: there is no users.users.${account}; declare it with isSystemUser, a group of its own and autoSubUidGidRange, or leave `account` out to have \"csm-${name}\" made")
          ]
        else
          optional (!hasRanges user) (
            refuse "${path}: users.users.${account} has no subordinate ids; set its autoSubUidGidRange, or subUidRanges and subGidRanges of 65536 ids"
          )
          ++ optional (isAdmin user) (
            refuse "${path}: \"${account}\" is in the group csm-admin, and so the workspace could reach every home; take it out of that group"
          )
          ++ optional (workspace.subordinateIds != null) (
            refuse "${of name}.subordinateIds: is only for the account that this module makes; set users.users.${account}.subUidRanges and subGidRanges instead"
          )
      ) cfg.users
    );
  isAdmin =
    user:
    elem "csm-admin" user.extraGroups
    || user.group == "csm-admin"
    || elem user.name config.users.groups.csm-admin.members;

  # --- Subordinate ids, where NixOS hands out none ---
  scriptless = import ./scriptless.nix { inherit config lib; };
  # Every range that is written down, one kind for both files: what overlaps in either is shared.
  ranges = lib.unique (
    concatLists (
      mapAttrsToList (
        _: user:
        map (range: {
          owner = user.name;
          start = range.startUid;
          inherit (range) count;
        }) user.subUidRanges
        ++ map (range: {
          owner = user.name;
          start = range.startGid;
          inherit (range) count;
        }) user.subGidRanges
      ) config.users.users
    )
  );
  touching =
    first:
    lib.unique (
      map (range: range.owner) (
        filter (range: range.start < first + 65536 && first < range.start + range.count) ranges
      )
    );
  without = attrNames (
    filterAttrs (_: workspace: workspace.account == null && workspace.subordinateIds == null) cfg.users
  );
  # Above whatever is taken, so that nobody else's ids move when somebody joins.
  free =
    index:
    (lib.foldl' lib.max 1879113728 (map (range: range.start + range.count) ranges)) + index * 65536;
  subordinate =
    optional (scriptless != null && without != [ ]) (refuse ''
      ${own}.users.<name>.subordinateIds: with ${scriptless} NixOS writes no /etc/subuid, so containers have no ids to run as. Write:
      ${concatStringsSep "\n" (
        imap0 (
          index: name: "  services.code-server-multi.users.${name}.subordinateIds = ${toString (free index)};"
        ) without
      )}'')
    ++ concatLists (
      mapAttrsToList (
        name: workspace:
        let
          owners = lib.remove "csm-${name}" (touching workspace.subordinateIds);
        in
        optional (workspace.subordinateIds != null && owners != [ ]) (
          refuse "${of name}.subordinateIds: the 65536 ids from ${toString workspace.subordinateIds} on overlap those of ${quoted owners}; write ${toString (free 0)}"
        )
      ) cfg.users
    );

  # --- Secrets ---
  isStored = path: builtins.isPath path || hasPrefix builtins.storeDir (toString path);
  stored =
    option: path:
    optional (path != null && isStored path) (
      refuse "${option}: ${
        if builtins.isPath path then "a path literal is copied into the Nix store" else toString path
      }${
        if builtins.isPath path then "" else " is in the Nix store"
      }, which everybody on this machine can read; write the path of a file that is only there at run time as text, for example config.sops.secrets.NAME.path or \"/run/secrets/NAME\""
    );
  variablesOf =
    option: from:
    concatLists (
      mapAttrsToList (name: stored "${option}.secretEnvironment.${name}") from.secretEnvironment
    )
    ++ map (
      name:
      refuse "${option}.environment.${name}: is in `secretEnvironment` too; leave one of the two out"
    ) (filter (name: from.secretEnvironment ? ${name}) (attrNames from.environment));
  secrets =
    stored "${own}.tls.certificateKey" cfg.tls.certificateKey
    ++ variablesOf "${own}.defaults" cfg.defaults
    ++ concatLists (
      mapAttrsToList (
        name: workspace:
        stored "${of name}.passwordFile" workspace.passwordFile ++ variablesOf (of name) workspace
      ) cfg.users
    );

  # --- Image ---
  images = filter (one: one.set) [
    {
      set = cfg.baseImage != null;
      name = "baseImage";
    }
    {
      set = cfg.image.name != null || cfg.image.archive != null;
      name = "image.name or image.archive";
    }
  ];
  image =
    optional (lib.length images > 1) (
      refuse "${own}.baseImage: is set together with image.name or image.archive; write one of them: baseImage fetches an image, image.archive loads one from a file"
    )
    ++ optional (cfg.image.archive != null && cfg.image.name == null) (
      refuse "${own}.image.archive: which image of the archive is meant? Write its full name in image.name, as `podman load` prints it"
    )
    ++ optional (cfg.baseImage != null && hasPrefix "localhost/" cfg.baseImage) (
      refuse "${own}.baseImage: localhost is no registry to fetch from; write image.name = \"${cfg.baseImage}\" and image.archive"
    );

  # --- Workspaces that only the free settings know ---
  strangers = filter (name: !(cfg.users ? ${name})) (attrNames (cfg.settings.workspaces or { }));

  web = import ./web-assertions.nix {
    inherit
      cfg
      config
      lib
      own
      refuse
      ;
  };
in
{
  config = mkIf cfg.enable {
    assertions =
      map (name: refuse "${of name}: \"${name}\" ${nameProblem name}") badNames
      ++ ports
      ++ accounts
      ++ subordinate
      ++ secrets
      ++ image
      ++ map (
        name:
        refuse "${own}.settings.workspaces.${name}: there is no ${of name}, so nobody makes its account; write users.${name} = { } besides"
      ) strangers
      ++ optional (cfg.adminGroup == "csm-admin") (
        refuse "${own}.adminGroup: csm-admin is the group that this option fills; write users.groups.csm-admin.members = [ \"NAME\" ] for single users"
      )
      ++ optional (cfg.adminGroup != null && !(config.users.groups ? ${cfg.adminGroup})) (
        refuse "${own}.adminGroup: there is no users.groups.${toString cfg.adminGroup}; write the name of a group that exists, such as \"wheel\""
      )
      ++ optional (!config.security.allowUserNamespaces) (
        refuse "${own}.enable: containers of ordinary accounts need user namespaces; remove security.allowUserNamespaces = false"
      )
      ++ web;

    warnings = import ./warnings.nix {
      inherit
        cfg
        lib
        own
        ;
    };
  };
}
