# The options of `services.code-server-multi` that concern the machine as a whole.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    literalExpression
    mkEnableOption
    mkOption
    types
    ;
  toml = pkgs.formats.toml { };

  optional =
    type: example: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit example description;
    };
in
{
  options.services.code-server-multi = {
    enable = mkEnableOption "browser workspaces for people and their AI agents, each at `https://NAME.DOMAIN`";

    package = mkOption {
      type = types.package;
      default = pkgs.code-server-multi or (pkgs.callPackage ../package.nix { });
      defaultText = literalExpression "pkgs.code-server-multi, or the package of this module's own source";
      description = "The package with the daemon, the gateway and {command}`csm`.";
    };

    domain = mkOption {
      type = types.strMatching "[a-z0-9][a-z0-9.-]*[a-z0-9]";
      example = "code.example.org";
      description = ''
        Workspaces are at `https://NAME.DOMAIN`. DNS for `*.DOMAIN` and `DOMAIN` leads to this machine. Lower case.
      '';
    };

    acmeHost = optional types.str "code.example.org" ''
      The name of a certificate in {option}`security.acme.certs` for `*.DOMAIN` and `DOMAIN`. A wildcard needs DNS-01, so the
      certificate has a {option}`dnsProvider`. This module gives it nginx's group, starts nginx after its first, self-signed
      version, and reloads nginx when it is renewed.
    '';

    tls = {
      certificate = optional types.path "/var/lib/certificates/code/fullchain.pem" ''
        The certificate chain for `*.DOMAIN` and `DOMAIN`, PEM, where no {option}`acmeHost` is used.
      '';
      certificateKey = optional types.path "/run/secrets/code-key.pem" ''
        The key of {option}`tls.certificate`, readable by nginx's group; an absolute path outside the Nix store.
      '';
    };

    workspaceBase = optional types.path "/srv/workspaces" ''
      The directory below which the homes are, at {file}`NAME/workspace`, {file}`NAME/config` and {file}`NAME/home`; a
      directory of its own. Unset, {file}`/var/lib/vscode`. Homes don't move with it: stop the workspaces and move them first.
    '';

    startOnBoot =
      optional
        (types.enum [
          "as-it-was"
          "always"
          "never"
        ])
        "always"
        "What runs after the machine has started: what ran before (the default), everything, or nothing.";

    reservedPorts =
      optional (types.listOf types.port)
        [
          51820
          41641
        ]
        ''
          UDP ports of this machine that no workspace takes, not even for a moment: those of services that may start later.
          Unset, WireGuard's, 51820. A change comes with a workspace's next start.
        '';

    sessionLifetime = optional types.str "7d" ''
      How long a sign-in lasts without use, as `"30m"`, `"1h 30m"` or `"7d"`.
    '';

    baseImage = optional types.str "codercom/code-server:4.139.1" ''
      An image to fetch from a registry, in place of the one that this module builds. A name without a registry becomes
      one of `docker.io`. It is fetched once, when this machine lacks it, and never updated unasked; a digest
      (`NAME@sha256:...`) says exactly which.
    '';

    image = {
      name = optional types.str "localhost/code-server-multi/workspace:4.139.1" ''
        The full name of the image. With {option}`image.archive` it is a name that the archive holds.
      '';
      archive = optional types.path "/srv/code-server-multi/workspace.tar" ''
        A `podman save` archive with the image, as `images/build` of the source makes it. It is loaded once, when this
        machine lacks {option}`image.name`.
      '';
      pull =
        optional
          (types.enum [
            "never"
            "missing"
          ])
          "missing"
          ''
            Whether {option}`image.name` may be fetched once when this machine lacks it. Unset, never; {option}`baseImage` sets it.
          '';
      extraArguments = mkOption {
        type = types.attrsOf types.raw;
        default = { };
        example = literalExpression "{ extraPackages = [ pkgs.go ]; }";
        description = ''
          What the image of {option}`image.package`'s default is built with: `extraPackages`, a list of packages for everybody's
          PATH; `withClaudeCode`, unless set true where its unfree licence is allowed; `withEditorDefaults`, false for an editor
          with its vendor's first screen.
        '';
      };
      package = mkOption {
        type = types.package;
        default = pkgs.callPackage ../image.nix config.services.code-server-multi.image.extraArguments;
        defaultText = literalExpression "this project's nix/image.nix, called with extraArguments";
        example = literalExpression "inputs.our-images.packages.x86_64-linux.workspace";
        description = ''
          An image made by {var}`pkgs.dockerTools`, with `imageName` and `imageTag`, that is used when neither
          {option}`baseImage` nor {option}`image.name` nor {option}`image.archive` is set. Another build has another tag, so a
          workspace takes it with its next start.
        '';
      };
    };

    adminGroup = optional types.str "wheel" ''
      A group whose members may use {command}`csm` without being root: they become members of `csm-admin`. **Such a member
      can reach every home.**
    '';

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether to open the ports at which nginx serves workspaces, 443 unless {option}`settings.nginx.listen` says otherwise,
        and 80, which redirects. Ports of {option}`users.<name>.port` stay closed.
      '';
    };

    machineMemory = optional types.str "8G" ''
      How much memory this machine has. It is used for one thing: a warning, when the hard limits that are written down here
      come to more than four fifths of it. {command}`csm doctor` counts those that the daemon chooses too.
    '';

    settings = mkOption {
      type = types.submodule { freeformType = toml.type; };
      default = { };
      example = {
        nginx.public_port = 8443;
      };
      description = ''
        The daemon's configuration file, {file}`/etc/code-server-multi/config.toml`, key by key. The other options write into
        it, and what is set here wins. Every key is described in {file}`docs/configuration.md`, and below is a table of which
        option writes which key. The file is checked by {command}`csm check-config` while the system is built, and read by
        everybody: secrets are files that it names.
      '';
    };
  };
}
