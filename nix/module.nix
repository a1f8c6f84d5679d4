# `services.code-server-multi`: workspaces as NixOS options. The daemon owns every default and every check of a value; what
# is here turns options into its configuration file, and gives the machine what the daemon expects of it.
{
  _class = "nixos";

  imports = [
    ./module/options.nix
    ./module/workspaces.nix
    ./module/settings.nix
    ./module/accounts.nix
    ./module/services.nix
    ./module/nginx.nix
    ./module/assertions.nix
  ];
}
