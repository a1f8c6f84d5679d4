# What works and is unwise.
{
  cfg,
  lib,
  own,
}:
let
  inherit (lib)
    attrNames
    concatLists
    filter
    mapAttrsToList
    optional
    ;

  # --- Memory: what is written down; a limit that the daemon chooses is not known here ---
  units = {
    "" = 1;
    K = 1024;
    M = 1024 * 1024;
    G = 1024 * 1024 * 1024;
    T = 1024 * 1024 * 1024 * 1024;
  };
  # Bytes of `2G`, `1.5GiB` or a number; nothing for what check-config will refuse.
  bytes =
    size:
    let
      parts = builtins.match "([0-9]+(\\.[0-9]+)?) ?([KMGT]?)(iB)?" (toString size);
      number = builtins.fromJSON (lib.head parts);
    in
    if parts == null then null else builtins.floor (number * units.${lib.elemAt parts 2});
  limitOf =
    workspace:
    if workspace.memoryLimit != null then workspace.memoryLimit else cfg.defaults.memoryLimit;
  limits = filter (limit: limit != null) (
    mapAttrsToList (
      _: workspace: if limitOf workspace == null then null else bytes (limitOf workspace)
    ) (lib.filterAttrs (_: workspace: workspace.enable) cfg.users)
  );
  sum = lib.foldl' builtins.add 0 limits;
  # The daemon's own limit is not known here, only who has it.
  silent =
    lib.length (attrNames (lib.filterAttrs (_: workspace: workspace.enable) cfg.users))
    - lib.length limits;
  unwritten = lib.optionalString (silent > 0) ". ${toString silent} more have the daemon's own limit";
  machine = if cfg.machineMemory == null then null else bytes cfg.machineMemory;
  written =
    number:
    if lib.mod number units.G == 0 then
      "${toString (number / units.G)}G"
    else
      "${toString (number / units.M)}M";
  memory = optional (machine != null && sum > machine * 4 / 5) (
    "${own}.users.<name>.memoryLimit: the limits written down come to ${written sum}, more than four fifths of machineMemory, ${cfg.machineMemory}. When everybody works at once, workspaces will be slowed down and killed; lower some, or set memorySoftLimit${unwritten}"
  );

  # --- Secrets written as text ---
  looksSecret = name: builtins.match ".*(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)" name != null;
  literal =
    option: written:
    map (
      name:
      "${option}.environment.${name}: looks like a secret, but its value is text that everybody on this machine can read in the Nix store; put it into a file and write secretEnvironment.${name} = \"/run/secrets/...\""
    ) (filter looksSecret (attrNames (written.environment or { })));
  literals =
    literal "${own}.defaults" (cfg.settings.defaults or { })
    ++ concatLists (
      mapAttrsToList (name: literal "${own}.users.${name}") (cfg.settings.workspaces or { })
    );

  isPinned = name: lib.hasInfix "@sha256:" name;
in
memory
++ literals
++ optional (cfg.baseImage != null && !isPinned cfg.baseImage) (
  "${own}.baseImage: \"${cfg.baseImage}\" names no digest, so what is fetched is whatever its registry holds on that day, and is kept from then on. Write NAME@sha256:DIGEST to say which image is meant"
)
