begin()
assert sign_in("dan", "a password of dan's") == 303

with subtest("a session is for one workspace"):
    assert visit("dan") == 200
    # In a header, since a client would not send one host's cookie to another.
    cookie = machine.succeed("awk '$6 ~ /^__Host-csm--[0-9a-f]+$/ {print $7}' /root/dan.cookies").strip()
    assert cookie
    header = ["-H", f"Cookie: __Host-csm={cookie}"]
    assert curl(f"https://dan.{DOMAIN}/healthz", *header) == 200
    assert curl(f"https://alice.{DOMAIN}/healthz", *header) == 401

with subtest("an account reaches neither the other's socket nor the other's home"):
    # Even as the host sees it, without a container around it.
    machine.fail("runuser -u csm-dan -- ls /var/lib/vscode/alice")
    ask = "curl -fsS -o /dev/null --unix-socket /run/code-server-multi/run/alice/http.sock http://localhost/healthz"
    machine.succeed(ask)
    status, _ = machine.execute(f"runuser -u csm-dan -- {ask}")
    assert status == 7, f"curl ended with {status}, not with 'could not connect'"
    machine.succeed("test -s /run/secrets/alice")
    machine.fail("runuser -u csm-dan -- cat /run/secrets/alice")

with subtest("a workspace reaches no server of the machine and of its neighbour"):
    # A server of dan's own, which dan reaches and alice does not.
    serve = "python3 -m http.server --bind 127.0.0.1 8123"
    machine.succeed(f"systemd-run --quiet --unit dan-serves csm exec dan -- {serve}")
    connect = "import socket; socket.create_connection(('127.0.0.1', 8123), 5)"
    machine.wait_until_succeeds(f'csm exec dan -- python3 -c "{connect}"', timeout=60)
    machine.fail(f'csm exec alice -- python3 -c "{connect}"')
    # nginx of the machine itself.
    machine.succeed("curl -sS -o /dev/null http://localhost/")
    for address in ("127.0.0.1", "10.0.2.15"):
        command = connect.replace("127.0.0.1", address).replace("8123", "80")
        machine.fail(f'csm exec alice -- python3 -c "{command}"')

with subtest("workspaces run as accounts of their own, with their limits"):
    assert show("csm-dan.service", "User") == "csm-dan"
    assert show("csm-alice.service", "User") == "csm-alice"
