"""Files that the configuration names become something else: F10. What was good before stays in force, nobody blocks on a
FIFO, nothing starts with an empty key, and the right thing put back counts within a second."""


from lab import pace
from lab.invariants import KEY, KEY_FILE, plant_canary

BACK = 1.0

# Each makes something else of the file "$1", and how that is told. Neighbours in the list are told differently.
KINDS = {
    "removed": (":", "there is no such file"),
    "empty": (': >"$1"', "it is empty"),
    "a FIFO": ('mkfifo "$1"', "it is not a regular file"),
    "10 MB": ('dd if=/dev/zero of="$1" bs=1M count=10 status=none', "it is larger than"),
    "a directory": ('mkdir "$1"', "it is not a regular file"),
    "a link to nowhere": ('ln -s /nowhere "$1"', "there is no such file"),
    "a device": ('ln -s /dev/zero "$1"', "it is not a regular file"),
    "a link in a circle": ('ln -s "$1" "$1"', "it can't be read"),
    "a socket": ('python3 -c "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])" "$1"', "it is not a regular file"),
}
# Only a password is taken apart so far.
PASSWORDS = KINDS | {
    "one newline": ('echo >"$1"', "it is empty"),
    "a truncated hash": ("echo '$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ' >\"$1\"", "argon2"),
}


def CONFIGURE(product):
    plant_canary(product)
    product.only("dan", "sam")


def spoil(host, path, how):
    host.sh('rm -rf "$1"; ' + how, path)


def put_back(host, path, content):
    host.sh('if test -d "$1"; then rmdir "$1"; fi', path)
    host.put(path, content + "\n", 0o600)


def told(host, product, name, code, words):
    """A finding of that code with these words. How long it took."""
    begun = pace.clock()
    host.wait_for(f"{code}: {words}", lambda: [one for one in product.workspace(name)["findings"] if one["code"] == code and words in one["message"]], 10)
    return pace.clock() - begun


def test_f10_the_key_of_a_workspace(host, product, invariants, sam):
    pid = sam.pid()
    spoil(host, KEY_FILE, KINDS["removed"][0])
    # It touches nobody who works.
    assert sam.csm("reload") == 0
    invariants.bystanders.check()
    assert sam.pid() == pid and sam.state() == "ready"
    assert sam.stop() == 0
    assert sam.start() == 1, "started with a key that is none"
    for kind, (how, words) in KINDS.items():
        spoil(host, KEY_FILE, how)
        took = told(host, product, "sam", "secret-unusable", words)
        print(f"{kind}: told after {took:.1f} s")
        said = product.workspace("sam")
        assert said["state"] == "blocked" and KEY_FILE in said["findings"][0]["message"], (kind, said)
        assert host.show("csm-sam.service", "LoadState") == "not-found", kind
        assert took < BACK, kind
    invariants.refusals_have_reasons(refused=["sam"])
    put_back(host, KEY_FILE, KEY)
    begun = pace.clock()
    host.wait_for("it is no longer blocked", lambda: sam.state() != "blocked", 10)
    took = pace.clock() - begun
    assert took < BACK, f"noticed after {took:.1f} s"
    host.wait_for("it runs", sam.is_ready, 20)
    invariants.check()


def test_f10_a_password_file(host, product, invariants, sam):
    path = product.password_file("dan")
    with product.visitor("dan") as dan:
        for kind, (how, words) in PASSWORDS.items():
            spoil(host, path, how)
            took = told(host, product, "dan", "password-unusable", words)
            print(f"{kind}: told after {took:.1f} s")
            # The last good one stays in force, for who is signed in and for who signs in now.
            assert dan.get("/healthz").status_code == 200, kind
            with product.visitor("dan") as again:
                assert again.get("/healthz").status_code == 200, kind
            assert took < BACK, kind
            put_back(host, path, product.passwords["dan"])
            host.wait_for("nothing is amiss", lambda: not product.workspace("dan")["findings"], 5)
    invariants.quick()


def test_f10_a_generation_of_secrets_is_swapped(host, product, invariants):
    """As sops-nix does it: a link to a directory is replaced by a link to another one. From the next request on the new
    password counts, and whoever was signed in with the old one is asked again."""
    swap = 'ln -sfn "lab-passwords.d/$1" /run/lab-passwords.new; mv -T /run/lab-passwords.new /run/lab-passwords'
    passwords = {number: f"{product.passwords['sam']}-{number}" for number in ("1", "2", "3")}
    for number, password in passwords.items():
        host.put(f"/run/lab-passwords.d/{number}/sam", password + "\n", 0o600)
    host.sh(swap, "1")
    product.config["workspaces"]["sam"]["password_file"] = "/run/lab-passwords/sam"
    product.reload()
    with product.client("sam") as sam:
        host.wait_for("the first counts", lambda: product.sign_in(sam, password=passwords["1"]).status_code == 303, 5)
        before = "1"
        for number in ("2", "3"):
            assert sam.get("/healthz").status_code == 200
            host.sh(swap, number)
            begun = pace.clock()
            host.wait_for("who was signed in is asked again", lambda: sam.get("/healthz").status_code == 401, 10)
            took = pace.clock() - begun
            print(f"generation {number}: in force after {took:.2f} s")
            assert took < BACK
            # One refusal and one sign-in: guesses are counted.
            assert product.sign_in(sam, password=passwords[before]).status_code == 401
            assert product.sign_in(sam, password=passwords[number]).status_code == 303
            before = number
            # The old generation goes, and that is no change.
            host.sh("cd /run/lab-passwords.d; for one in *; do [ \"$one\" = \"$1\" ] || [ \"$one\" \\> \"$1\" ] || rm -r \"$one\"; done", number)
            assert sam.get("/healthz").status_code == 200
    product.config["workspaces"]["sam"]["password_file"] = product.password_file("sam")
    product.reload()
    host.wait_for("the file of before counts", lambda: not product.workspace("sam")["findings"], 5)
    invariants.quick()


def test_f10_a_mode_that_lets_everybody_read(host, product):
    """Served as it is, since taking it away would help nobody; doctor says so."""
    path = product.password_file("dan")
    host.sh('chmod 0644 "$1"', path)
    assert "password-file-open" in product.csm("doctor", "--json", check=False).stdout
    host.sh('chmod 0600 "$1"', path)
    assert "password-file-open" not in product.csm("doctor", "--json", check=False).stdout
