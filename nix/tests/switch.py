begin()
assert sign_in("dan", "a password of dan's") == 303
before = {unit: show(unit, "MainPID") for unit in (DAEMON, "nginx.service", "csm-dan.service")}

with subtest("somebody joins"):
    machine.succeed("/run/current-system/specialisation/joined/bin/switch-to-configuration test")
    wait_ready("sam")
    machine.succeed("getent passwd csm-sam")
    machine.succeed("grep -q ^csm-sam: /etc/subuid")
    made = machine.succeed("csm password sam --generate").strip()
    assert len(made) >= 20

with subtest("nobody else noticed"):
    assert {unit: show(unit, "MainPID") for unit in before} == before
    assert visit("dan") == 200

with subtest("somebody leaves, and the home stays"):
    machine.succeed("/run/booted-system/bin/switch-to-configuration test")
    machine.wait_until_fails("systemctl is-active csm-sam.service", timeout=60)
    machine.succeed("test -d /var/lib/vscode/sam/home")
    assert {unit: show(unit, "MainPID") for unit in before} == before
