# State that an earlier version left: tests/data/state says which.
{ pkgs, one, ... }:
one (
  { lib, ... }:
  {
    environment.etc."earlier".source = ../../tests/data/state;

    # Before anything of ours starts for the first time. Sessions are as old as they were then.
    systemd.services.earlier-state = {
      requiredBy = [ "code-server-multi.service" ];
      before = [
        "code-server-multi.service"
        "code-server-multi-gateway.service"
        "nginx.service"
      ];
      path = [ pkgs.jq ];
      serviceConfig.Type = "oneshot";
      script = ''
        state=/var/lib/code-server-multi
        [ ! -e $state/intent ] || exit 0
        install -d -m 0711 $state
        install -d -m 0700 $state/intent $state/passwords $state-gateway
        install -m 0600 -t $state/intent /etc/earlier/intent/*
        install -m 0600 -t $state/passwords /etc/earlier/passwords/* /etc/earlier/passwords/.[!.]*
        jq --argjson later "$(($(date +%s) - $(jq .made /etc/earlier/state.json)))" \
          'walk(if type == "object" then with_entries(
            if .key == "created" or .key == "last_used" or .key == "at" then .value += $later end) end)' \
          /etc/earlier/gateway/sessions.json >$state-gateway/sessions.json
        chmod 0600 $state-gateway/sessions.json
      '';
    };

    # Dan's password was set by `csm password`.
    services.code-server-multi.users.dan.passwordFile = lib.mkForce null;
  }
)
