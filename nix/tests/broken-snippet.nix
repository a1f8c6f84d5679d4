# nginx refuses a file: what it served before it goes on serving.
{ pkgs, one, ... }:
one {
  # A port that somebody else has: nginx only finds out when it reloads.
  specialisation.taken.configuration.services.code-server-multi.users.dan.port = 8101;
  systemd.services.squatter = {
    wantedBy = [ "multi-user.target" ];
    serviceConfig.ExecStart = "${pkgs.lib.getExe pkgs.python3} -m http.server --bind 127.0.0.1 8101";
  };
}
