# Everything that tests/nix/check asks Nix, as values that JSON can say.
{ lib }:
let
  pkgs = import ./pkgs.nix { inherit lib; };
  render = import ./render.nix { inherit lib; };

  # Of sops-nix: only where a secret is.
  sops =
    { config, ... }:
    let
      place = config.sops.defaultSymlinkPath;
    in
    {
      options.sops = {
        defaultSymlinkPath = lib.mkOption {
          type = lib.types.str;
          default = "/run/secrets";
        };
        secrets = lib.mkOption {
          default = { };
          type = lib.types.attrsOf (
            lib.types.submodule (
              { name, ... }:
              {
                options.path = lib.mkOption {
                  type = lib.types.str;
                  default = "${place}/${name}";
                };
              }
            )
          );
        };
      };
    };

  evaluate =
    modules:
    lib.evalModules {
      class = "nixos";
      modules = [
        ./surface.nix
        ../../nix/module.nix
      ]
      ++ modules;
      specialArgs = { inherit pkgs; };
    };

  good = {
    minimal = [ ];
    many = [ ];
    own-certificate = [ ];
    userborn = [ ];
    userborn-newer = [ ];
    sops = [ sops ];
    vps = [
      sops
    ];
    # The secrets that the original design's sample names.
    original = [
      sops
      {
        sops.secrets = lib.genAttrs [
          "code-server-dan"
          "code-server-alice"
          "opencode-anthropic"
          "opencode-openai"
          "vultr-api-key"
        ] (_: { });
      }
    ];
  };

  failed = system: map (one: one.message) (lib.filter (one: !one.assertion) system.config.assertions);

  case =
    name: more:
    let
      system = evaluate ([ (./cases + "/${name}.nix") ] ++ more);
      wrong = failed system;
    in
    if wrong == [ ] then
      render.system system
    else
      throw "the case ${name} is refused: ${lib.concatStringsSep "\n" wrong}";

  broken = import ./broken.nix;
  # What is said, and everything else of the system too, since a mistake of type only shows where it is used.
  complaints =
    one:
    let
      system = evaluate one.modules;
      said = failed system ++ system.config.warnings;
    in
    if failed system == [ ] then builtins.deepSeq (render.system system) said else said;
in
{
  cases = lib.mapAttrs case good;
  # What throws has no words here: `complaint.NAME` is evaluated by itself, and its message read.
  broken = lib.mapAttrs (
    _: one:
    let
      tried = builtins.tryEval (builtins.deepSeq (complaints one) (complaints one));
    in
    {
      inherit (one) says;
      said = if tried.success then tried.value else null;
    }
  ) broken;
  complaint = lib.mapAttrs (_: complaints) broken;
  options = import ../../nix/options.nix { inherit lib pkgs; };
}
