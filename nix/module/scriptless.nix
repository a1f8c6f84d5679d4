# The option by which accounts are made without NixOS's own script, the only one that writes /etc/subuid and hands out ranges;
# nothing where that script, or a userborn that does both (with NixOS 26.11), is at work.
{ config, lib }:
if config.services.userborn.enable && lib.versionOlder config.system.nixos.release "26.11" then
  "services.userborn.enable"
else if config.systemd.sysusers.enable then
  "systemd.sysusers.enable"
else
  null
