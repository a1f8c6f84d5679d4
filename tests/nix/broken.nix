# Configurations that are refused, or get a warning, each with words that the message must have. `base` is right, and each is
# one mistake away from it.
let
  base = {
    services.code-server-multi = {
      enable = true;
      domain = "code.example.org";
      acmeHost = "code";
      users.dan = { };
      users.alice = { };
    };
    security.acme.certs.code = {
      domain = "code.example.org";
      extraDomainNames = [ "*.code.example.org" ];
      dnsProvider = "vultr";
    };
  };
  own = options: { services.code-server-multi = options; };
  dan = options: own { users.dan = options; };
  at = "services.code-server-multi";
in
builtins.mapAttrs
  (_: one: {
    modules = (if one ? instead then [ one.instead ] else [ base ]) ++ one.modules or [ ];
    inherit (one) says;
  })
  {
    # --- Names, ports, accounts ---
    port-twice = {
      modules = [
        (own {
          users.dan.port = 8081;
          users.alice.port = 8081;
        })
      ];
      says = "${at}.users.<name>.port: \"alice\", \"dan\" have the same port 8081; give each a port of its own";
    };
    port-too-high = {
      modules = [ (dan { port = 99999; }) ];
      says = "${at}.users.dan.port' is not of type `null or integer between 1024 and 65535";
    };
    port-of-root = {
      modules = [ (dan { port = 80; }) ];
      says = "${at}.users.dan.port' is not of type `null or integer between 1024 and 65535";
    };
    name-too-long = {
      modules = [ (own { users.abcdefghijklmnopqrstuvwxyzab = { }; }) ];
      says = "${at}.users.abcdefghijklmnopqrstuvwxyzab: \"abcdefghijklmnopqrstuvwxyzab\" has 28 characters: write 27 at most";
    };
    name-with-a-space = {
      modules = [ (own { users."Bad Name" = { }; }) ];
      says = "\"Bad Name\" is no name of a workspace: write lower-case letters";
    };
    name-reserved = {
      modules = [ (own { users.portal = { }; }) ];
      says = "${at}.users.portal: \"portal\" is reserved (as are admin, api, auth, www): write another name";
    };
    account-twice = {
      modules = [ (own { users.dan.account = "csm-alice"; }) ];
      says = "have the same account \"csm-alice\"";
    };
    account-of-root = {
      modules = [ (dan { account = "root"; }) ];
      says = "${at}.users.dan.account: \"root\" is no account for a workspace";
    };
    account-undeclared = {
      modules = [ (dan { account = "daniel"; }) ];
      says = "${at}.users.dan.account: there is no users.users.daniel; declare it";
    };
    account-without-ids = {
      modules = [
        (dan { account = "daniel"; })
        { users.users.daniel.isNormalUser = true; }
      ];
      says = "users.users.daniel has no subordinate ids; set its autoSubUidGidRange";
    };
    account-of-an-admin = {
      modules = [ { users.users.csm-dan.extraGroups = [ "csm-admin" ]; } ];
      says = "${at}.users.dan: the account \"csm-dan\" is in the group csm-admin";
    };
    admin-group-missing = {
      modules = [ (own { adminGroup = "weel"; }) ];
      says = "${at}.adminGroup: there is no users.groups.weel";
    };
    settings-of-nobody = {
      modules = [ (own { settings.workspaces.sam.port = 8083; }) ];
      says = "${at}.settings.workspaces.sam: there is no ${at}.users.sam";
    };

    # --- Subordinate ids ---
    userborn-without-ids = {
      modules = [
        { services.userborn.enable = true; }
        (own { users.alice.subordinateIds = 1879113728; })
      ];
      says = "services.code-server-multi.users.dan.subordinateIds = 1879179264;";
    };
    sysusers-without-ids = {
      modules = [ { systemd.sysusers.enable = true; } ];
      says = "with systemd.sysusers.enable NixOS writes no /etc/subuid";
    };
    ids-overlap = {
      modules = [
        (own {
          users.dan.subordinateIds = 1879113728;
          users.alice.subordinateIds = 1879113729;
        })
      ];
      says = "${at}.users.alice.subordinateIds: the 65536 ids from 1879113729 on overlap those of \"csm-dan\"";
    };
    no-user-namespaces = {
      modules = [ { security.allowUserNamespaces = false; } ];
      says = "remove security.allowUserNamespaces = false";
    };

    # --- Secrets ---
    password-in-the-store = {
      modules = [ (dan { passwordFile = "/nix/store/00000000000000000000000000000000-password"; }) ];
      says = "${at}.users.dan.passwordFile: /nix/store/00000000000000000000000000000000-password is in the Nix store, which everybody on this machine can read; write the path of a file";
    };
    password-as-a-path-literal = {
      modules = [ (dan { passwordFile = ./broken.nix; }) ];
      says = "${at}.users.dan.passwordFile: a path literal is copied into the Nix store";
    };
    password-relative = {
      modules = [ (dan { passwordFile = "run/secrets/dan"; }) ];
      says = "${at}.users.dan.passwordFile' is not of type `null or absolute path";
    };
    key-in-the-store = {
      modules = [
        (own { defaults.secretEnvironment.GH_TOKEN = "/nix/store/00000000000000000000000000000000-token"; })
      ];
      says = "${at}.defaults.secretEnvironment.GH_TOKEN: /nix/store/00000000000000000000000000000000-token is in the Nix store";
    };
    variable-twice = {
      modules = [
        (dan {
          environment.GH_TOKEN = "/run/secrets/a";
          secretEnvironment.GH_TOKEN = "/run/secrets/b";
        })
      ];
      says = "${at}.users.dan.environment.GH_TOKEN: is in `secretEnvironment` too";
    };
    secret-as-text = {
      modules = [ (dan { environment.OPENAI_API_KEY = "sk-not-a-file"; }) ];
      says = "${at}.users.dan.environment.OPENAI_API_KEY: looks like a secret";
    };

    # --- nginx and the certificate ---
    http-config-replaced = {
      modules = [ { services.nginx.httpConfig = "server {}"; } ];
      says = "services.nginx.httpConfig: replaces what this module adds";
    };
    nginx-config-replaced = {
      modules = [ { services.nginx.config = "events {}"; } ];
      says = "services.nginx.config: replaces what this module adds";
    };
    no-certificate = {
      instead = own {
        enable = true;
        domain = "code.example.org";
      };
      says = "${at}.acmeHost: workspaces need a certificate for *.code.example.org; write acmeHost";
    };
    half-a-certificate = {
      instead = own {
        enable = true;
        domain = "code.example.org";
        tls.certificate = "/etc/ssl/chain.pem";
      };
      says = "or both tls.certificate and tls.certificateKey";
    };
    two-certificates = {
      modules = [ (own { tls.certificate = "/etc/ssl/chain.pem"; }) ];
      says = "${at}.acmeHost: is set together with tls.certificate";
    };
    certificate-misspelt = {
      modules = [ { services.code-server-multi.acmeHost = (import ./force.nix) "coed"; } ];
      says = "${at}.acmeHost: there is no certificate \"coed\" that anybody orders (there is: code)";
    };
    certificate-by-http = {
      modules = [
        {
          security.acme.certs.code = {
            dnsProvider = (import ./force.nix) null;
            webroot = "/var/lib/acme";
          };
        }
      ];
      says = "${at}.acmeHost: a wildcard certificate is only given out by DNS-01";
    };
    certificate-without-wildcard = {
      modules = [ { security.acme.certs.code.extraDomainNames = (import ./force.nix) [ ]; } ];
      says = "the certificate \"code\" is not for \"*.code.example.org\"; add that to security.acme.certs.\"code\".extraDomainNames";
    };
    certificate-unreadable = {
      modules = [ { security.acme.certs.code.group = "acme"; } ];
      says = "nginx can't read the certificate \"code\", which belongs to the group acme";
    };
    key-of-certificate-in-the-store = {
      instead = own {
        enable = true;
        domain = "code.example.org";
        tls.certificate = "/etc/ssl/chain.pem";
        tls.certificateKey = "/nix/store/00000000000000000000000000000000-key.pem";
      };
      says = "${at}.tls.certificateKey: /nix/store/00000000000000000000000000000000-key.pem is in the Nix store";
    };
    nginx-off = {
      modules = [ { services.nginx.enable = (import ./force.nix) false; } ];
      says = "services.nginx.enable: workspaces are served by nginx";
    };

    # --- Image, memory, settings ---
    two-images = {
      modules = [
        (own {
          baseImage = "codercom/code-server";
          image.archive = "/srv/workspace.tar";
          image.name = "localhost/workspace:1";
        })
      ];
      says = "${at}.baseImage: is set together with image.name or image.archive";
    };
    archive-without-a-name = {
      modules = [ (own { image.archive = "/srv/workspace.tar"; }) ];
      says = "${at}.image.archive: which image of the archive is meant?";
    };
    image-of-localhost = {
      modules = [ (own { baseImage = "localhost/workspace:1"; }) ];
      says = "${at}.baseImage: localhost is no registry to fetch from";
    };
    image-without-a-digest = {
      modules = [ (own { baseImage = "codercom/code-server:latest"; }) ];
      says = "${at}.baseImage: \"codercom/code-server:latest\" names no digest";
    };
    too-little-memory = {
      modules = [
        (own {
          machineMemory = "8G";
          users.dan.memoryLimit = "4G";
          users.alice.memoryLimit = "3.5GiB";
        })
      ];
      says = "${at}.users.<name>.memoryLimit: the limits written down come to 7680M, more than four fifths of machineMemory, 8G";
    };
    null-in-settings = {
      modules = [ (own { settings.gateway.session_lifetime = null; }) ];
      says = "${at}.settings.gateway.session_lifetime";
    };
    option-misspelt = {
      modules = [ (dan { memoryLimt = "2G"; }) ];
      says = "The option `${at}.users.dan.memoryLimt' does not exist";
    };
    domain-missing = {
      instead = own { enable = true; };
      says = "${at}.domain' was accessed but has no value defined";
    };
    domain-with-a-scheme = {
      modules = [ (own { domain = (import ./force.nix) "https://code.example.org"; }) ];
      says = "${at}.domain' is not of type `string matching the pattern";
    };
  }
