begin()

with subtest("the right password lets in, a wrong one doesn't"):
    assert sign_in("dan", "a guess of a stranger") == 401
    assert visit("dan") == 401
    assert sign_in("dan", "a password of dan's") == 303
    assert visit("dan") == 200

with subtest("an unknown name gets a page that lists nobody"):
    assert curl(f"https://stranger.{DOMAIN}/") == 404

with subtest("doctor finds nothing that keeps the machine from working"):
    machine.succeed("csm doctor")
    assert json.loads(machine.succeed("csm plan --json"))["workspaces"]["dan"] == []

with subtest("what ran before runs after a boot"):
    machine.succeed("csm stop alice")
    machine.shutdown()
    machine.start()
    machine.wait_for_unit("multi-user.target")
    set_password("dan", "a password of dan's")
    wait_ready("dan")
    assert workspace("alice")["state"] == "stopped"
    # Nobody was signed out.
    assert visit("dan") == 200
