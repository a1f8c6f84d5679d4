begin()
machine.wait_for_unit("squatter.service")
assert sign_in("dan", "a password of dan's") == 303

with subtest("the file at fault is named, and everybody is served as before"):
    machine.succeed("/run/current-system/specialisation/taken/bin/switch-to-configuration test")
    machine.wait_until_succeeds("csm status dan --json | grep -q nginx-snippet-refused", timeout=60)
    assert visit("dan") == 200
    assert curl(f"https://alice.{DOMAIN}/") == 401

with subtest("nginx comes up with the files that it last served"):
    machine.succeed("systemctl restart nginx.service")
    assert visit("dan") == 200

with subtest("it mends itself once the cause is gone"):
    machine.succeed("systemctl stop squatter.service")
    machine.wait_until_succeeds("curl -sS -o /dev/null http://localhost:8101/", timeout=120)
