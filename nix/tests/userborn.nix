# Accounts by userborn, which hands out no subordinate ids: the module writes them.
{ one, ... }:
one {
  services.userborn.enable = true;
  services.code-server-multi.users = {
    dan.subordinateIds = 1879113728;
    alice.subordinateIds = 1879179264;
  };
}
