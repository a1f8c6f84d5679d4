# Secrets by sops-nix, as most machines have them, with a directory of its own; a common key and one that is Alice's own.
{ config, ... }:
{
  sops.defaultSymlinkPath = "/run/our-secrets";
  sops.secrets = {
    alice-password = { };
    anthropic = { };
    alice-github = { };
    # With a place of its own.
    license.path = "/var/lib/keys/license";
    cloudflare = { };
  };

  services.code-server-multi = {
    enable = true;
    domain = "code.example.org";
    acmeHost = "workspaces";
    openFirewall = true;
    adminGroup = "wheel";
    machineMemory = "8G";
    sessionLifetime = "7d";
    startOnBoot = "always";
    defaults = {
      memoryLimit = "2G";
      environment = {
        EDITOR = "nano";
        ANTHROPIC_API_KEY = config.sops.secrets.anthropic.path;
        LICENSE = config.sops.secrets.license.path;
        LOOKS_LIKE_A_PATH = "/run/our-secrets-are-elsewhere";
      };
    };
    users.alice = {
      passwordFile = config.sops.secrets.alice-password.path;
      secretEnvironment.GH_TOKEN = config.sops.secrets.alice-github.path;
      environment.EDITOR = "vim";
    };
    users.sam.enable = false;
  };

  security.acme.acceptTerms = true;
  security.acme.certs.workspaces = {
    domain = "*.code.example.org";
    extraDomainNames = [ "code.example.org" ];
    dnsProvider = "cloudflare";
    credentialFiles.CF_DNS_API_TOKEN_FILE = config.sops.secrets.cloudflare.path;
  };

  users.users.carol = {
    isNormalUser = true;
    extraGroups = [ "wheel" ];
  };
}
