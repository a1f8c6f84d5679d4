KEY = "canary-of-a-key-0123456789"
machine.start()
machine.wait_for_unit("multi-user.target")
set_password("dan", "canary-of-a-password-0123456789")
set_password("alice", "another")
set_password("anthropic", KEY)
wait_ready("dan", "alice")
assert sign_in("dan", "canary-of-a-password-0123456789") == 303

with subtest("the content of the file reaches the workspace"):
    assert machine.succeed("csm exec dan -- printenv ANTHROPIC_API_KEY").strip() == KEY
    assert machine.succeed("csm exec dan -- printenv GREETING").strip() == "not a secret"

with subtest("and is nowhere else"):
    machine.fail("nix-store -qR /run/current-system | xargs grep -rl canary-of-[a]-")
    machine.fail("journalctl --no-pager | grep canary-of-[a]-")
    machine.fail("grep -r canary-of-a- /etc /var/lib/code-server-multi /var/lib/code-server-multi-gateway")
    machine.fail("systemctl show 'csm-*' 'code-server-multi*' | grep canary-of-[a]-")
    machine.fail("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep canary-of-[a]-")
