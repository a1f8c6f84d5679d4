# `users` and `defaults`: who has a workspace, and what each may use.
{ lib, ... }:
let
  inherit (lib) mkOption types;

  workspace =
    { name, ... }:
    {
      options =
        import ./limits.nix {
          inherit lib;
          common = false;
        }
        // {
          enable = mkOption {
            type = types.bool;
            default = true;
            description = ''
              Whether the workspace may run. `false` stops it and refuses its sign-in; its account, address and home stay.
            '';
          };

          account = mkOption {
            type = types.nullOr types.str;
            default = null;
            example = "dan-workspace";
            description = ''
              The account on this machine that the workspace runs as. Unset, it is `csm-${name}`, and this module creates it. An
              account that is named here has to be declared in {option}`users.users` with subordinate ids, and belongs to this
              workspace alone.
            '';
          };

          passwordFile = mkOption {
            type = types.nullOr types.path;
            default = null;
            example = lib.literalExpression "config.sops.secrets.code-server-dan.path";
            description = ''
              A file that holds the password for signing in, as text or as an argon2id string; an absolute path outside the Nix
              store. It is read again whenever it changes. Unset, {command}`csm password ${name}` sets the password.
            '';
          };

          port = mkOption {
            type = types.nullOr (types.ints.between 1024 65535);
            default = null;
            example = 8081;
            description = ''
              A port of 127.0.0.1 at which nginx serves the workspace besides, over plain HTTP and with the same sign-in, for
              use through an SSH tunnel: `ssh -L 8081:127.0.0.1:8081 HOST`, then `http://localhost:8081/`. It is not opened in
              the firewall.
            '';
          };

          subordinateIds = mkOption {
            type = types.nullOr (types.ints.between 65536 4294836223);
            default = null;
            example = 1879179264;
            description = ''
              The first of the 65536 subordinate user and group ids of the account that this module creates. Unset, NixOS chooses
              them and remembers its choice. It has to be set where {option}`services.userborn.enable` or
              {option}`systemd.sysusers.enable` is, because those hand out none; the message that says so proposes a number.
            '';
          };
        };
    };
in
{
  options.services.code-server-multi = {
    users = mkOption {
      type = types.attrsOf (types.submodule workspace);
      default = { };
      example = lib.literalExpression ''
        {
          dan = {
            passwordFile = config.sops.secrets.code-server-dan.path;
            memoryLimit = "4G";
          };
          alice = { };
        }
      '';
      description = ''
        The workspaces, one for each person. The name becomes part of the address, `https://NAME.DOMAIN`: lower-case letters
        and digits with single hyphens between, starting with a letter, at most 27 characters. Taking somebody out stops the
        workspace and removes its address; the home is never deleted, and is there again when the name comes back.
      '';
    };

    defaults = mkOption {
      type = types.submodule {
        options = import ./limits.nix {
          inherit lib;
          common = true;
        };
      };
      default = { };
      example = {
        memoryLimit = "4G";
        environment.EDITOR = "nano";
      };
      description = ''
        What workspaces have that don't say otherwise. A workspace's own value wins; variables are merged one by one.
      '';
    };
  };
}
