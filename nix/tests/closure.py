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
    # From a file, so that the search itself does not hold what it looks for.
    machine.succeed("printf canary-of- >/root/pattern; printf a- >>/root/pattern")

    def found(command, files=False):
        """What of it is found by name or in the text; that nothing could be read is no answer."""
        search = "xargs -0r grep -lsaFf /root/pattern --" if files else "grep -aFf /root/pattern"
        return machine.succeed(f"set +o pipefail; {command} | {search} || true").strip()

    # It finds what is there.
    assert found("find /run/secrets -type f -print0", files=True)
    assert found("cat /run/secrets/anthropic")
    closure = found("nix-store -qR /run/current-system | xargs -I{} find {} -type f -print0", files=True)
    assert closure == "", closure
    places = "/etc/ /etc/code-server-multi/ /var/lib/code-server-multi /var/lib/code-server-multi-gateway"
    # Images are nobody's secret, and large.
    state = found(f"find -L {places} -path '*/images/*' -prune -o -type f -print0 2>/dev/null", files=True)
    assert state == "", state
    for text in (
        "journalctl --namespace='*' --no-pager",
        "systemctl show 'csm-*' 'code-server-multi*'",
        "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '",
    ):
        assert found(text) == "", text
