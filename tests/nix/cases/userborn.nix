# Accounts by userborn, which hands out no subordinate ids.
{
  services.userborn.enable = true;
  services.code-server-multi = {
    enable = true;
    domain = "code.example.org";
    tls.certificate = "/etc/ssl/code/fullchain.pem";
    tls.certificateKey = "/etc/ssl/code/privkey.pem";
    users.dan.subordinateIds = 1879113728;
    users.alice.subordinateIds = 1879179264;
  };

  users.users.carol = {
    isNormalUser = true;
    subUidRanges = [
      {
        startUid = 100000;
        count = 65536;
      }
    ];
    subGidRanges = [
      {
        startGid = 100000;
        count = 65536;
      }
    ];
  };
}
