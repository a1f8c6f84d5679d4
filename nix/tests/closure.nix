# Secrets are files that only exist at run time: nothing of them is in the system, its configuration, a unit or the journal.
{ one, ... }:
one {
  services.code-server-multi.users.dan.environment = {
    ANTHROPIC_API_KEY = "/run/secrets/anthropic";
    GREETING = "not a secret";
  };
}
