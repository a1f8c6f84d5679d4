# Options that both `defaults` and each of `users` have. Left null, the daemon's own default holds.
{ lib, common }:
let
  inherit (lib) mkOption types;

  size = types.either types.ints.positive types.str;

  optional =
    type: key: example: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit example;
      description = ''
        ${description}

        Unset, ${
          if common then
            "the daemon's default holds"
          else
            "{option}`services.code-server-multi.defaults` holds"
        }. Key `${key}` of the configuration file.
      '';
    };
in
{
  memoryLimit = optional size "memory_limit" "4G" ''
    The hard limit of memory: above it the kernel kills a process of the workspace. A size such as `"2G"`, in powers of 1024.
    A change is in force at once, and nothing restarts.
  '';
  memorySoftLimit = optional size "memory_soft_limit" "3G" ''
    Above it the workspace is slowed down and gives memory back; at most {option}`memoryLimit`. A change is in force at once.
  '';
  memoryLow = optional (types.either types.ints.unsigned types.str) "memory_low" "512M" ''
    What is kept for the workspace while memory is short elsewhere. A change is in force at once.
  '';
  cpuLimit =
    optional
      (types.oneOf [
        types.ints.positive
        types.float
        types.str
      ])
      "cpu_limit"
      "1.5"
      ''
        Processor time in cores, as `1.5` or `"1.5"`. A change is in force at once.
      '';
  cpuWeight = optional (types.ints.between 1 10000) "cpu_weight" 200 ''
    The share when processors are short; everybody has 100 by default. A change is in force at once.
  '';
  tasksMax = optional types.ints.positive "tasks_max" 8192 ''
    How many processes and threads there may be. A change is in force at once.
  '';
  apply =
    optional
      (types.enum [
        "pending"
        "now"
      ])
      "apply"
      "now"
      ''
        What happens when a change needs a restart, as a new image does. `"pending"` leaves the workspace running, and the change
        comes with its next start or {command}`csm restart`; `"now"` restarts it.
      '';

  environment = mkOption {
    type = types.attrsOf types.str;
    default = { };
    example = lib.literalExpression ''
      {
        EDITOR = "nano";
        ANTHROPIC_API_KEY = config.sops.secrets.anthropic.path;
      }
    '';
    description = ''
      Environment variables. A value that is a path below {file}`/run/secrets` (where sops-nix puts secrets, or the directory
      that its {option}`sops.defaultSymlinkPath` names) or {file}`/run/agenix` is a file, whose *content* becomes the variable,
      as if it stood in {option}`secretEnvironment`. Any other value is taken as it is, and everybody on the machine can read
      it in the Nix store.
    '';
  };

  secretEnvironment = mkOption {
    type = types.attrsOf types.path;
    default = { };
    example = {
      ANTHROPIC_API_KEY = "/run/secrets/anthropic";
    };
    description = ''
      Environment variables whose values are in files, each an absolute path outside the Nix store. The daemon reads the file
      when the workspace starts; it reaches the workspace on a tmpfs and appears in no command line, unit or log.
    '';
  };
}
