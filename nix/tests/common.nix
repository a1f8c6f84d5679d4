# What the machines of all tests have: this module, two people, a certificate of their own authority, and room to work.
{ pkgs, self }:
rec {
  domain = "code.example.test";
  people = [
    "dan"
    "alice"
  ];

  certificate = pkgs.runCommand "code-server-multi-test-certificate" { } ''
    mkdir $out
    ${pkgs.lib.getExe pkgs.openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 \
      -subj "/CN=${domain}" -addext "subjectAltName=DNS:${domain},DNS:*.${domain}" \
      -keyout $out/key.pem -out $out/certificate.pem
  '';

  machine =
    { lib, ... }:
    {
      imports = [ self.nixosModules.default ];

      services.code-server-multi = {
        enable = true;
        inherit domain;
        tls.certificate = "${certificate}/certificate.pem";
        # A key in the store would be refused.
        tls.certificateKey = "/var/lib/test-certificate/key.pem";
        users = lib.genAttrs people (name: {
          passwordFile = "/run/secrets/${name}";
          memoryLimit = "1G";
        });
      };
      # By tmpfiles, since nginx' group may not be there yet while the system is activated.
      systemd.tmpfiles.settings.test-certificate = {
        "/var/lib/test-certificate".d.mode = "0755";
        "/var/lib/test-certificate/key.pem".C = {
          argument = "${certificate}/key.pem";
          mode = "0640";
          group = "nginx";
        };
      };

      security.pki.certificateFiles = [ "${certificate}/certificate.pem" ];
      networking.hosts."127.0.0.1" = [
        domain
      ]
      ++ map (name: "${name}.${domain}") (people ++ [ "stranger" ]);
      environment.systemPackages = [ (lib.getBin pkgs.curl) ];

      virtualisation = {
        cores = 2;
        memorySize = 4096;
        diskSize = 16384;
      };
    };

  # A test with one machine, and what is its own.
  one = own: {
    nodes.machine.imports = [
      machine
      own
    ];
    # The driver's names are not known to the type checker without it.
    skipTypeCheck = true;
  };
}
