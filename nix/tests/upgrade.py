machine.start()
machine.wait_for_unit("multi-user.target")
earlier = json.loads(machine.succeed("cat /etc/earlier/state.json"))
set_password("alice", earlier["passwords"]["alice"])
wait_ready("dan", "alice")

with subtest("passwords go on"):
    for name in ("dan", "alice"):
        assert sign_in(name, earlier["passwords"][name]) == 303

with subtest("nobody is signed out"):
    for name, cookie in earlier["cookies"].items():
        assert curl(f"https://{name}.{DOMAIN}/healthz", "-H", f"Cookie: __Host-csm={cookie}") == 200

with subtest("nothing was put aside"):
    machine.fail("ls /var/lib/code-server-multi-gateway/*.unreadable")
