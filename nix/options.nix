# docs/options.md as text, from the options themselves. Evaluates the module's options and builds nothing.
{
  lib,
  pkgs,
  module ? ./module.nix,
}:
let
  keys = import ./module/keys.nix;
  own = [
    "services"
    "code-server-multi"
  ];

  evaluated = lib.evalModules {
    class = "nixos";
    modules = [
      module
      { _module.check = false; }
    ];
    specialArgs = { inherit pkgs; };
  };

  all = lib.filter (option: option.visible && !option.internal) (
    lib.optionAttrSetToDocList (lib.getAttrFromPath own evaluated.options)
  );

  # Nixpkgs' roles in descriptions, as plain CommonMark.
  plain = builtins.replaceStrings (map (role: "{${role}}`") [
    "command"
    "env"
    "file"
    "manpage"
    "option"
    "var"
  ]) (lib.genList (_: "`") 6);

  short = option: lib.concatStringsSep "." (lib.drop (lib.length own) option.loc);
  code =
    value:
    if lib.hasInfix "\n" value.text then
      "\n\n```nix\n${lib.trim value.text}\n```"
    else
      " `${lib.trim value.text}`";

  section =
    option:
    lib.concatStringsSep "\n\n" (
      [
        "### `${short option}`"
        (lib.trim (plain option.description))
        "Type: ${option.type}"
      ]
      ++ lib.optional (option ? default) "Default:${code option.default}"
      ++ lib.optional (option ? example) "Example:${code option.example}"
    );

  # --- Which option writes which key ---
  same = table: lib.mapAttrsToList lib.nameValuePair table;
  groups = {
    "" = same keys.top;
    image = same keys.others.image;
    nginx = same keys.others.nginx;
    gateway = same keys.gateway;
    defaults =
      map (one: lib.nameValuePair one.name "defaults.${one.value}") (same keys.limits)
      ++ variables "defaults";
    "workspaces.NAME" =
      map (one: lib.nameValuePair one.name "users.NAME.${one.value}") (
        same keys.workspace ++ same keys.others.workspace
      )
      ++ variables "users.NAME";
  };
  variables =
    place:
    map (
      one:
      lib.nameValuePair one.name (
        lib.concatMapStringsSep ", " (option: "${place}.${option}") (lib.splitString ", " one.value)
      )
    ) (same keys.others.variables);
  quoted = lib.concatMapStringsSep ", " (option: "`${option}`");
  row =
    section: one:
    let
      key = lib.optionalString (section != "") "${section}." + one.name;
      options = lib.splitString ", " one.value;
    in
    "| `${key}` | ${if options == [ "settings" ] then "`settings.${key}`" else quoted options} |";
  rows = lib.concatMap (section: map (row section) groups.${section}) [
    ""
    "image"
    "nginx"
    "gateway"
    "defaults"
    "workspaces.NAME"
  ];
in
''
  # Options of the NixOS module

  <!-- Made from nix/module by nix/options.nix; tests/nix/run --write makes it anew. -->

  All of them are below `services.code-server-multi`. [nixos.md](nixos.md) goes from an empty machine to the first sign-in;
  [configuration.md](configuration.md) says what each key of the configuration file means, and when a change is in force.

  ## Keys of the configuration file

  What `settings` names itself wins over the option that writes the same key, so every key can be reached both ways.

  | key | written by |
  |---|---|
  ${lib.concatStringsSep "\n" rows}

  ## Every option

  ${lib.concatMapStringsSep "\n\n" section all}
''
