# What of NixOS the module touches, declared in our own words with the types that Nixpkgs has, so that a configuration can be
# evaluated with Nixpkgs' `lib` alone.
{ lib, pkgs, ... }:
let
  inherit (lib) mkOption types;

  flag =
    default:
    mkOption {
      type = types.bool;
      inherit default;
    };
  text =
    default:
    mkOption {
      type = types.str;
      inherit default;
    };
  lines = mkOption {
    type = types.lines;
    default = "";
  };
  list =
    of:
    mkOption {
      type = types.listOf of;
      default = [ ];
    };
  maybe =
    of:
    mkOption {
      type = types.nullOr of;
      default = null;
    };
  many =
    options:
    mkOption {
      type = types.attrsOf (types.submodule options);
      default = { };
    };
  anything = mkOption {
    type = types.attrsOf types.anything;
    default = { };
  };

  # A directive: definitions that hold a list are joined, others have to agree.
  directive = lib.mkOptionType {
    name = "systemd option";
    merge =
      place: definitions:
      let
        values = map (one: one.value) (lib.modules.filterOverrides definitions);
      in
      if lib.any lib.isList values then
        lib.concatMap lib.toList values
      else
        lib.options.mergeEqualOption place definitions;
  };
  directives = mkOption {
    type = types.attrsOf directive;
    default = { };
  };

  unit = {
    options = {
      description = text "";
      unitConfig = directives;
    }
    // lib.genAttrs [ "after" "before" "documentation" "requires" "wantedBy" "wants" ] (
      _: list types.str
    );
  };
  service = {
    imports = [ unit ];
    options = {
      environment = mkOption {
        type = types.attrsOf (
          types.nullOr (
            types.oneOf [
              types.str
              types.path
              types.package
            ]
          )
        );
        default = { };
      };
      path = list types.anything;
      serviceConfig = directives;
      reloadTriggers = list types.unspecified;
      restartTriggers = list types.unspecified;
      stopIfChanged = flag true;
    };
  };
  socket = {
    imports = [ unit ];
    options.socketConfig = directives;
  };

  range = start: {
    options = {
      ${start} = mkOption { type = types.int; };
      count = mkOption {
        type = types.int;
        default = 1;
      };
    };
  };
  user =
    { name, ... }:
    {
      options = {
        name = text name;
        description = text "";
        group = text "";
        home = mkOption {
          type = types.path;
          default = "/var/empty";
        };
        extraGroups = list types.str;
        isSystemUser = flag false;
        isNormalUser = flag false;
        linger = maybe types.bool;
        autoSubUidGidRange = flag false;
        subUidRanges = list (types.submodule (range "startUid"));
        subGidRanges = list (types.submodule (range "startGid"));
      };
    };

  certificate =
    { name, ... }:
    {
      options = {
        domain = text name;
        extraDomainNames = list types.str;
        directory = mkOption {
          type = types.str;
          readOnly = true;
          default = "/var/lib/acme/${name}";
        };
        group = text "acme";
        reloadServices = list types.str;
        credentialFiles = mkOption {
          type = types.attrsOf types.path;
          default = { };
        };
      }
      // lib.genAttrs [ "dnsProvider" "webroot" "listenHTTP" "s3Bucket" ] (_: maybe types.str);
    };
in
{
  options = {
    assertions = list types.unspecified;
    warnings = list types.str;

    environment.systemPackages = list types.package;
    environment.etc = many (
      { config, ... }:
      {
        options = {
          text = maybe types.lines;
          source = mkOption { type = types.path; };
          mode = text "symlink";
        };
        config.source = lib.mkIf (config.text != null) (lib.mkDefault (pkgs.writeText "etc" config.text));
      }
    );

    users.users = many user;
    users.groups = many { options.members = list types.str; };

    systemd.package = mkOption {
      type = types.package;
      default = pkgs.systemd;
    };
    systemd.services = many service;
    systemd.sockets = many socket;
    systemd.sysusers.enable = flag false;
    systemd.tmpfiles.settings = mkOption {
      type = types.attrsOf (
        types.attrsOf (
          types.attrsOf (
            types.submodule {
              options = {
                mode = text "-";
                user = text "-";
                group = text "-";
                age = text "-";
                argument = text "";
              };
            }
          )
        )
      );
      default = { };
    };

    services.userborn.enable = flag false;
    system.nixos.release = text "26.05";
    services.nginx = {
      enable = flag false;
      package = mkOption {
        type = types.package;
        default = pkgs.nginx;
      };
      user = text "nginx";
      group = text "nginx";
      enableReload = flag false;
      config = lines;
      httpConfig = lines;
      appendHttpConfig = lines;
      commonHttpConfig = lines;
      eventsConfig = lines;
      serverNamesHashBucketSize = maybe types.ints.positive;
      virtualHosts = anything;
    };

    networking.enableIPv6 = flag true;
    networking.firewall.allowedTCPPorts = list types.port;

    security.allowUserNamespaces = flag true;
    security.acme.acceptTerms = flag false;
    security.acme.defaults.email = maybe types.str;
    security.acme.certs = many certificate;

    virtualisation.containers.enable = flag false;
    virtualisation.podman.package = mkOption {
      type = types.package;
      default = pkgs.podman;
    };
  };

  # What Nixpkgs' own modules set in the same places.
  config = {
    users.groups.wheel = { };
    systemd.services.nginx.serviceConfig = {
      RuntimeDirectory = "nginx";
      RuntimeDirectoryMode = "0750";
    };
  };
}
