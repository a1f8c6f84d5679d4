# What is configured is what the kernel holds, and a change needs no restart.
{ one, ... }:
one {
  services.code-server-multi.users.dan = {
    cpuLimit = "0.5";
    tasksMax = 512;
  };
  specialisation.more.configuration.services.code-server-multi.settings.workspaces.dan.memory_limit =
    "900M";
}
