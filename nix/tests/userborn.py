begin()
machine.succeed("grep -qx csm-dan:1879113728:65536 /etc/subuid")
# newuidmap(1) follows no link.
machine.fail("test -L /etc/subuid")
assert sign_in("dan", "a password of dan's") == 303
assert visit("dan") == 200
