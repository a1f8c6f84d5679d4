"""The original design's sample, as the NixOS module makes it: its units, accounts and configuration run the product."""

import re

import pytest

from lab import env
from lab.nixos import CSM, GOLDEN, NGINX_MAIN, Nixos
from lab.pki import Pki
from lab.product import DAEMON, GATEWAY

INSTALLED = False
DOMAIN = "code.example.org"
KEY = "canary-key-of-the-sample"


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"), DOMAIN)


@pytest.fixture(scope="module")
def product(host, pki):
    product = Nixos(host, pki, "original", DOMAIN)
    host.put("/run/secrets/opencode-anthropic", KEY + "\n", 0o400)
    host.put("/run/secrets/opencode-openai", "another\n", 0o400)
    product.install()
    product.wait_ready()
    return product


def test_units_are_right_for_systemd(host, product):
    said = host.run("systemd-analyze", "verify", "--recursive-errors=no", *(f"/etc/systemd/system/{unit}" for unit in product.units()))
    assert not said.stderr, said.stderr
    for unit in product.units():
        assert host.show(unit, "NeedDaemonReload") == "no"
    assert CSM in host.show(DAEMON, "ExecStart") and CSM in host.show(GATEWAY, "ExecStart")


def test_every_golden_configuration_is_right_for_the_programs_that_read_it(host, product):
    cases = sorted(place.name for place in GOLDEN.iterdir() if place.is_dir())
    assert len(cases) >= 7
    for case in cases:
        place = f"/root/golden/{case}"
        host.put_tree(GOLDEN / case, place)
        product.csm("check-config", f"{place}/config.toml")
        units = host.sh('ls -d "$1"/code-server-multi*.service "$1"/code-server-multi*.socket', place).splitlines()
        said = host.run("systemd-analyze", "verify", "--recursive-errors=no", *units)
        assert not said.stderr, (case, said.stderr)
        host.put(f"{place}/nginx.conf", NGINX_MAIN + (GOLDEN / case / "nginx.conf").read_text())
        host.run("systemd-run", "--quiet", "--wait", "--pipe", "nginx", "-t", "-c", f"{place}/nginx.conf")


def test_exposure_is_what_the_document_says(host, product):
    document = (env.CHECKOUT / "docs" / "nixos.md").read_text()
    for unit in (DAEMON, GATEWAY):
        shown = host.sh('systemd-analyze security --no-pager "$1" | tail -n 1', unit)
        level = re.search(r"exposure level for \S+: ([0-9.]+)", shown)[1]
        assert f"| `{unit}` | {level} |" in document, shown


def test_the_sample_lets_its_people_in_and_nobody_else(product):
    with product.client("dan") as dan:
        assert dan.get("/").status_code == 401
        assert product.sign_in(dan, password="a guess").status_code == 401
        assert product.sign_in(dan).status_code == 303
        assert dan.get("/healthz").status_code == 200
        with product.client("alice") as alice:
            alice.headers["Cookie"] = dan.cookie_header()
            assert alice.get("/healthz").status_code == 401
    with product.client("nobody") as nobody:
        assert nobody.get("/").status_code == 404


def test_a_value_below_run_secrets_is_the_content_of_the_file(host, product):
    found = product.inside("dan", "/bin/sh", "/run/csm/entrypoint", "printenv", "ANTHROPIC_API_KEY")
    assert found.stdout.strip() == KEY
    assert host.run("grep", "-r", "--quiet", KEY, "/etc", "/nix", "/var/lib/code-server-multi", check=False).returncode == 1
    assert KEY not in host.sh("systemctl show 'csm-*' 'code-server-multi*'")


def test_its_ports_serve_a_tunnel(host, product):
    for name, port in (("dan", 8081), ("alice", 8082)):
        assert product.config["workspaces"][name]["port"] == port
        assert host.sh(f"curl -s -o /dev/null -w '%{{http_code}}' http://localhost:{port}/") == "401"


def test_limits_of_the_sample(product):
    limits = product.workspace("dan")["limits"]
    assert limits["memory_max"] == 2 << 30 and limits["cpu_quota_usec"] == 1_500_000
    assert product.workspace("alice")["limits"]["memory_max"] == 3 << 30


def test_logs_and_doctor_find_what_they_need(host, product):
    assert product.csm("logs", "dan").stdout
    # What a host of namespaces lacks, it lacks here too.
    shown = product.csm("doctor", check=False).stdout
    assert "kernel" in shown.lower(), shown
    failed = [line for line in shown.splitlines() if line.startswith("fail")]
    assert all("controller" in line for line in failed), failed


def test_a_switch_that_changes_nothing_does_nothing(host, product):
    product.wait_settled()
    before = product.daemon_pid(), product.main_pids(), product.nginx_pids()
    product.switch()
    product.wait_settled()
    assert (product.daemon_pid(), product.main_pids(), product.nginx_pids()) == before


def test_somebody_joins_and_leaves_and_nobody_else_notices(host, product):
    before = product.daemon_pid(), product.main_pids("dan", "alice")
    with product.visitor("dan") as dan, product.session(dan) as window:
        product.make_accounts("user csm-sam group=csm-sam home=/var/empty system subordinate=automatic\ngroup csm-sam\n")
        product.config["workspaces"]["sam"] = {"password_file": "/run/secrets/sam"}
        product.passwords["sam"] = "the password of sam"
        product.set_password("sam", product.passwords["sam"])
        product.switch()
        product.wait_ready("sam")
        with product.visitor("sam") as sam:
            assert sam.get("/healthz").status_code == 200
        window.assert_alive()
        ids, number = product.ids("sam"), host.sh("id -u csm-sam")
        assert product.processes(ids)
        # A switch takes the account away before the daemon hears of it.
        host.sh("sed -i /^csm-sam:/d /etc/passwd /etc/shadow /etc/subuid /etc/subgid")
        del product.config["workspaces"]["sam"]
        product.switch()
        host.wait_for("sam is gone", lambda: host.show("csm-sam.service", "ActiveState") in ("inactive", "failed"), 40)
        host.wait_for("its processes are gone", lambda: not product.processes(ids), 10)
        product.wait_settled()
        window.assert_alive()
        assert dan.get("/healthz").status_code == 200
    assert (product.daemon_pid(), product.main_pids("dan", "alice")) == before
    assert host.sh("ls /var/lib/vscode/sam") == "config\nhome\nworkspace"

    # Back again: NixOS kept the number, so everything is there as it was.
    host.sh(f"useradd --system --no-create-home --uid {number} --gid csm-sam csm-sam")
    product.make_accounts("user csm-sam group=csm-sam home=/var/empty system subordinate=automatic\n")
    product.config["workspaces"]["sam"] = {"password_file": "/run/secrets/sam"}
    product.switch()
    product.wait_ready("sam")
    assert host.sh("stat -c %u /var/lib/vscode/sam/home") == number
    del product.config["workspaces"]["sam"]
    product.switch()
    product.wait_settled()


def test_another_podman_in_nixpkgs_leaves_nothing_pending(host, product):
    before = product.main_pids()
    host.sh("ln -sfn /nix/store/programs-2 /etc/code-server-multi/programs; rm -r /nix/store/programs-1")
    host.sh('systemctl restart "$1"', DAEMON)
    product.wait_ready()
    product.wait_settled()
    assert all(not one.get("pending") for one in product.status()["workspaces"])
    assert product.main_pids() == before
    # What runs was started by a program that is gone, and stops all the same.
    product.csm("stop", "alice")
    assert not product.processes(product.ids("alice"))
    product.csm("start", "alice")
    product.wait_ready("alice")
