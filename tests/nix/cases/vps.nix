{ config, ... }:
{
  sops.secrets = {
    dan-password = { };
    alice-password = { };
    anthropic = { };
    vultr = { };
  };

  services.code-server-multi = {
    enable = true;
    domain = "code.example.org";
    acmeHost = "code.example.org";
    adminGroup = "wheel";
    machineMemory = "8G";

    defaults = {
      memoryLimit = "3G";
      environment.ANTHROPIC_API_KEY = config.sops.secrets.anthropic.path;
    };

    users = {
      dan = {
        passwordFile = config.sops.secrets.dan-password.path;
        port = 8101;
      };
      alice = {
        passwordFile = config.sops.secrets.alice-password.path;
        port = 8102;
      };
    };
  };

  security.acme = {
    acceptTerms = true;
    defaults.email = "you@example.org";
    certs."code.example.org" = {
      domain = "code.example.org";
      extraDomainNames = [ "*.code.example.org" ];
      dnsProvider = "vultr";
      credentialFiles.VULTR_API_KEY_FILE = config.sops.secrets.vultr.path;
    };
  };
}
