"""The configuration becomes something that it can't be: F20, and names that are none: F21. Refused as a whole, with the place;
what was in force stays in force; and `csm check-config` says the same. More of what may stand in it: stories/test_config.py."""

import json

import pytest
import tomli_w

from lab.invariants import plant_canary
from lab.product import CONFIG

PLACES = ("/run/code-server-multi", "/var/lib/code-server-multi", "/var/lib/vscode")

# Each makes another text of the one in force; with the place, and a part of the complaint.
KINDS = {
    "cut off": (lambda text: text[: text.index(b"\n[") + 4], "line ", ""),
    "not TOML": (lambda text: b"domain = \n" + text, "line 1, column 10", ""),
    "an unknown key": (lambda text: b'colour = "green"\n' + text, "colour", "no such key"),
    "another type": (lambda text: text + b'[defaults]\ntasks_max = "many"\n', "defaults.tasks_max", "whole number"),
    "a byte order mark": (lambda text: b"\xef\xbb\xbf" + text, "line 1, column 1", "byte order mark"),
    "another encoding": (lambda text: "# zwölf\n".encode("latin-1") + text, "line 1, column 5", "not UTF-8"),
    "deep nesting": (lambda text: b"deep = " + b"[" * 50_000 + b"]" * 50_000 + b"\n" + text, "line 1, column ", "recur"),
    "a table twice": (lambda text: text + b"[nginx]\n", "line ", "duplicate"),
}

# Refused, and each for its own reason, so that none of the rules can go without being missed.
NAMES = [
    "", ".", "..", "../etc", "a/b", "a.b", "-rf", "a-", "a--b", "xn--dn-via", "Dan", "DAN", "1a", "a_b", "a@b", "a:b", "a;b", "a b", "a\n", "a\tb", "$(id)", "%n",
    "a" * 28, "a" * 64, "a" * 300, "dän", "ｄan", "dаn", "dan\u202e", "root;", "www", "admin", "portal", "api", "auth",
]  # fmt: skip


def CONFIGURE(product):
    plant_canary(product)
    product.only("dan", "sam")


def verdicts(host, product, path):
    """What the daemon says of the file that it was just given, and what `csm check-config` says."""
    product.csm("reload", check=2)
    said = product.status()["configuration"]["problems"]
    checked = json.loads(product.csm("check-config", path, "--json", check=2).stdout)
    assert not checked["ok"]
    return said, checked["problems"]


def as_it_was(product, pids, loaded):
    assert product.main_pids() == pids
    assert product.status()["configuration"]["loaded_at"] == loaded
    assert product.is_settled()


@pytest.mark.parametrize("kind", KINDS)
def test_f20_a_file_that_is_no_configuration(host, product, invariants, kind):
    make, place, words = KINDS[kind]
    pids, loaded, pid = product.main_pids(), product.status()["configuration"]["loaded_at"], product.daemon_pid()
    host.put(CONFIG, make(tomli_w.dumps(product.config).encode()))
    try:
        said, checked = verdicts(host, product, CONFIG)
        assert said == checked
        assert [one for one in said if one["key"].startswith(place) and words in one["message"]], said
        assert all(one["hint"] for one in said), said
        as_it_was(product, pids, loaded)
        assert "stays in force" in product.csm("status").stdout
    finally:
        product.write_config()
    # Without a word from anybody.
    host.wait_for("nothing is amiss", lambda: not product.status()["configuration"]["problems"], 5)
    assert product.daemon_pid() == pid
    invariants.quick()


def test_f20_a_hundred_megabytes(host, product, invariants):
    """Nobody reads it: neither the daemon, which would grow by that much, nor the check."""
    pids, loaded = product.main_pids(), product.status()["configuration"]["loaded_at"]
    before = peak(host, product)
    host.sh('head -c 100000000 /dev/zero | tr "\\0" "#" >"$1"', CONFIG)
    try:
        said, checked = verdicts(host, product, CONFIG)
        assert "larger than" in said[0]["message"] and "more than" in checked[0]["message"], (said, checked)
        as_it_was(product, pids, loaded)
        grown = peak(host, product) - before
        print(f"the daemon grew by {grown / 1e6:.1f} MB")
        assert grown < 5e6
    finally:
        product.write_config()
    host.wait_for("nothing is amiss", lambda: not product.status()["configuration"]["problems"], 5)
    invariants.quick()


def peak(host, product):
    status = host.get(f"/proc/{product.daemon_pid()}/status").decode()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_f21_names_that_are_none(host, product, invariants):
    """One grammar at the one place where names come in: none of these gets as far as a unit, a path, a vhost."""
    listing = lambda: host.sh("systemctl list-units --all --plain --no-legend 'csm*' 'run-code*' | awk '{ print $1, $3 }'; find \"$@\" -maxdepth 3 | sort", *PLACES)  # noqa: E731
    before, pids, loaded = listing(), product.main_pids(), product.status()["configuration"]["loaded_at"]
    config = product.config | {"workspaces": product.config["workspaces"] | {name: {"account": f"lab-{number}"} for number, name in enumerate(NAMES)}}
    host.put(CONFIG, tomli_w.dumps(config))
    try:
        said, checked = verdicts(host, product, CONFIG)
        assert said == checked
        # Each of them, and nothing else.
        assert len(said) == len(NAMES) and {one["message"] for one in said} <= RULES, [(one["key"], one["message"]) for one in said]
        as_it_was(product, pids, loaded)
        assert listing() == before
    finally:
        product.write_config()
    host.wait_for("nothing is amiss", lambda: not product.status()["configuration"]["problems"], 5)
    invariants.check()


RULES = {
    "a workspace name is lower-case letters and digits with single hyphens between, starting with a letter",
    "a workspace name has at most 27 characters",
    "admin, portal, www, api and auth are reserved",
}
