begin()
assert sign_in("dan", "a password of dan's") == 303

with subtest("a session is for one workspace"):
    assert visit("dan") == 200
    assert visit("alice", cookies="dan") == 401

with subtest("an account reaches neither the other's socket nor the other's home"):
    # Even as the host sees it, without a container around it.
    machine.fail("runuser -u csm-dan -- ls /var/lib/vscode/alice")
    machine.fail("runuser -u csm-dan -- curl --unix-socket /run/code-server-multi/run/alice/http.sock http://localhost/")
    machine.fail("runuser -u csm-dan -- cat /run/secrets/alice")

with subtest("workspaces run as accounts of their own, with their limits"):
    assert show("csm-dan.service", "User") == "csm-dan"
    assert show("csm-alice.service", "User") == "csm-alice"
