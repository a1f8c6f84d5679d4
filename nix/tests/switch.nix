# A switch with another set of people reloads the daemon: whoever works goes on.
{ one, ... }:
one {
  specialisation.joined.configuration.services.code-server-multi.users.sam.memoryLimit = "1G";
}
