# Accounts and groups: one for each service, one for each workspace, with the subordinate ids that containers run as.
{ config, lib, ... }:
let
  inherit (lib)
    elem
    filterAttrs
    mapAttrs'
    mkIf
    mkMerge
    nameValuePair
    ;
  cfg = config.services.code-server-multi;
  count = 65536;

  scriptless = import ./scriptless.nix { inherit config lib; } != null;

  # Above everything that systemd lists as used in its "Users, Groups, UIDs and GIDs", and below 2^31.
  imagesFirst = 1879048192;

  range =
    first:
    if first == null then
      { autoSubUidGidRange = true; }
    else
      {
        subUidRanges = [
          {
            startUid = first;
            inherit count;
          }
        ];
        subGidRanges = [
          {
            startGid = first;
            inherit count;
          }
        ];
      };

  account = name: {
    isSystemUser = true;
    group = name;
  };

  made = filterAttrs (_: workspace: workspace.account == null) cfg.users;

  lines =
    kind: start:
    lib.concatStrings (
      lib.concatLists (
        lib.mapAttrsToList (
          _: user:
          map (range: "${user.name}:${toString range.${start}}:${toString range.count}\n") user.${kind}
        ) config.users.users
      )
    );

  # A copy, not a link: newuidmap(1) opens the file without following links.
  file = text: {
    inherit text;
    mode = "0644";
  };

  isAdmin = user: elem cfg.adminGroup user.extraGroups || user.group == cfg.adminGroup;
in
{
  config = mkIf cfg.enable {
    users.users = mkMerge [
      {
        code-server-multi-gateway = account "code-server-multi-gateway" // {
          description = "code-server-multi: sign-in";
        };
        # For the proxy to the agents' providers. It has no service yet; the account's id is kept for it.
        code-server-multi-ai = account "code-server-multi-ai" // {
          description = "code-server-multi: AI providers";
        };
        code-server-multi-images =
          account "code-server-multi-images"
          // range (if scriptless then imagesFirst else null)
          // {
            description = "code-server-multi: image store";
            home = "/var/lib/code-server-multi/images";
          };
      }
      (mapAttrs' (
        name: workspace:
        nameValuePair "csm-${name}" (
          account "csm-${name}"
          // range workspace.subordinateIds
          // {
            description = "workspace of ${name}";
            home = "/var/lib/code-server-multi/accounts/${name}";
          }
        )
      ) made)
    ];

    users.groups = mkMerge [
      {
        code-server-multi-gateway = { };
        code-server-multi-ai = { };
        code-server-multi-images = { };
        # The editors' sockets belong to it, and nginx is given it.
        code-server-multi-web = { };
        csm-admin.members =
          lib.optionals
            (
              !elem cfg.adminGroup [
                null
                "csm-admin"
              ]
            )
            (
              lib.unique (
                (config.users.groups.${cfg.adminGroup} or { members = [ ]; }).members
                ++ lib.mapAttrsToList (_: user: user.name) (filterAttrs (_: isAdmin) config.users.users)
              )
            );
      }
      (mapAttrs' (name: _: nameValuePair "csm-${name}" { }) made)
    ];

    environment.etc = mkIf scriptless {
      subuid = file (lines "subUidRanges" "startUid");
      subgid = file (lines "subGidRanges" "startGid");
    };
  };
}
