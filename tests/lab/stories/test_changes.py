"""Changes of the configuration: what is applied live, what waits, and what isn't touched at all."""

import json

import pytest

from lab.product import DAEMON


# A second until it is noticed, and the asking.
NOTICED = 1.5


def pids_of_all(product):
    return product.main_pids(), product.nginx_pids()


@pytest.fixture(scope="module")
def dan(product):
    with product.visitor("dan") as client:
        yield client


@pytest.fixture(scope="module")
def window(product, dan):
    with product.session(dan) as session:
        yield session


def test_nothing_changed_means_nothing_happens(host, product, window):
    product.wait_settled()
    before = pids_of_all(product)
    assert json.loads(product.csm("reload", "--json").stdout) == {"changed": False}
    # Written anew with another order and a comment, but the same in meaning.
    reordered = dict(reversed(product.config.items()))
    product.config, kept = reordered, product.config
    product.write_config()
    product.config = kept
    assert json.loads(product.csm("reload", "--json").stdout) == {"changed": False}
    host.sh('systemctl restart "$1"', DAEMON)
    product.wait_ready()
    product.wait_settled()
    assert pids_of_all(product) == before
    window.assert_alive()


def test_limits_are_changed_live(host, product, window):
    before = pids_of_all(product)
    product.config["workspaces"]["dan"] |= {
        "memory_limit": "1234M",
        "memory_soft_limit": "1000M",
        "cpu_limit": 0.75,
        "tasks_max": 777,
        "cpu_weight": 42,
    }
    product.reload()
    expected = {
        "MemoryMax": str(1234 << 20),
        "MemoryHigh": str(1000 << 20),
        "CPUQuotaPerSecUSec": "750ms",
        "TasksMax": "777",
        "CPUWeight": "42",
    }
    for name, value in expected.items():
        host.wait_for(f"{name} is {value}", lambda name=name, value=value: host.show("csm-dan.service", name) == value, 10)
    product.wait_settled()
    assert pids_of_all(product) == before
    window.assert_alive()
    # A neighbour keeps its own.
    assert host.show("csm-alice.service", "MemoryMax") == str(3 << 30)
    assert product.workspace("dan")["pending"] == []


def test_odd_numbers_are_set_once(host, product, window):
    """The kernel counts memory in pages: a limit that isn't a number of them must not be set again and again."""
    product.config["workspaces"]["dan"] |= {"memory_limit": 1234567891, "memory_soft_limit": 1000000007, "cpu_limit": 0.333333}
    product.reload()
    host.wait_for("the limit is set", lambda: abs(int(host.show("csm-dan.service", "MemoryMax")) - 1234567891) < 65536, 10)
    product.wait_settled(5)
    assert "plan did not become empty" not in host.journal(DAEMON)
    window.assert_alive()


def test_the_environment_waits_for_a_restart(host, product, window):
    before = pids_of_all(product)
    product.config["workspaces"]["dan"]["environment"] = {"LAB_GREETING": "good morning, 'dan' \"$HOME\""}
    product.reload()
    host.wait_for("it is pending", lambda: product.workspace("dan")["pending"] == ["environment"], 10)
    plan = product.plan()
    assert plan["pending"] == {"dan": ["environment"]}
    assert not any(plan["workspaces"].values()) and not plan["host"]
    assert "csm restart dan" in product.csm("plan").stdout
    assert "csm restart dan" in product.csm("status").stdout
    assert pids_of_all(product) == before
    window.assert_alive()

    product.csm("restart", "dan")
    assert product.workspace("dan")["state"] == "ready"
    assert product.workspace("dan")["pending"] == [] and product.plan()["pending"].get("dan", []) == []
    pids = product.main_pids()
    assert pids["dan"] != before[0]["dan"]
    assert (pids["alice"], pids["sam"]) == (before[0]["alice"], before[0]["sam"])
    assert product.inside("dan", "printenv", "LAB_GREETING").stdout == "good morning, 'dan' \"$HOME\"\n"
    # Stopping and starting a workspace is none of nginx's business.
    assert product.nginx_pids() == before[1]


def test_a_rotated_secret_waits_for_a_restart(host, product):
    """The editor has the old key in its environment, and the status says so as long as that is so."""
    key, generation = "/run/lab-secrets/key", "ln -sfn lab-secrets.d/$1 /run/lab-secrets.new && mv -T /run/lab-secrets.new /run/lab-secrets"
    for number, content in (("1", "old key\n"), ("2", "new key\n"), ("3", "")):
        host.put(f"/run/lab-secrets.d/{number}/key", content, 0o600)
    host.sh(generation, "1")
    product.config["workspaces"]["sam"]["secret_environment"] = {"LAB_KEY": key}
    product.reload()
    host.wait_for("it is pending", lambda: product.workspace("sam")["pending"] == ["environment"], 10)
    product.csm("restart", "sam")
    before = product.main_pids()
    assert product.inside("sam", "sh", "/run/csm/entrypoint", "printenv", "LAB_KEY").stdout == "old key\n"
    assert product.workspace("sam")["pending"] == []

    host.sh(generation, "2")
    host.wait_for("it is pending", lambda: product.workspace("sam")["pending"] == ["secrets"], NOTICED)
    # Seen, not remembered.
    host.sh('systemctl restart "$1"', DAEMON)
    product.wait_ready()
    assert product.plan()["pending"]["sam"] == ["secrets"]
    assert product.main_pids() == before
    # One that can't be used is said, and stops nothing.
    host.sh(generation, "3")
    codes = lambda: [finding["code"] for finding in product.workspace("sam")["findings"]]
    host.wait_for("the status says why", lambda: codes() == ["secret-unusable"], NOTICED)
    assert product.state("sam") == "ready" and product.main_pids() == before
    refused = product.csm("restart", "sam", check=1).stderr
    assert "it could not be started again, so it was left running" in refused and "/run/lab-secrets/key" in refused
    assert product.main_pids() == before
    host.sh(generation, "2")
    host.wait_for("it is as good as mended", lambda: codes() == [], NOTICED)

    product.csm("restart", "sam")
    assert product.workspace("sam")["pending"] == []
    assert product.inside("sam", "sh", "/run/csm/entrypoint", "printenv", "LAB_KEY").stdout == "new key\n"
    del product.config["workspaces"]["sam"]["secret_environment"]
    product.reload()
    product.csm("restart", "sam")


def test_apply_now_restarts_by_itself(host, product):
    before = product.main_pids()
    product.config["workspaces"]["alice"] |= {"apply": "now", "environment": {"LAB_GREETING": "now"}}
    product.reload()
    host.wait_for("alice was restarted", lambda: product.main_pids()["alice"] not in (0, before["alice"]), 30)
    product.wait_ready("alice")
    assert product.inside("alice", "printenv", "LAB_GREETING").stdout == "now\n"
    after = product.main_pids()
    assert (after["dan"], after["sam"]) == (before["dan"], before["sam"])


def test_a_user_is_removed_and_comes_back(host, product, visit):
    product.inside_sh("sam", "echo kept >/home/coder/project/kept.txt; echo kept >/home/coder/.kept")
    assert visit("sam").get("/").status_code == 401
    before = product.main_pids("dan", "alice")
    product.remove("sam")
    host.wait_for("the unit is gone", lambda: host.show("csm-sam.service", "LoadState") == "not-found", 20)
    host.wait_for("the vhost is gone", lambda: visit("sam").get("/").status_code == 404, 10)
    assert "sam" not in visit("sam").get("/").text
    product.wait_settled()
    assert [one["name"] for one in product.status()["workspaces"]] == ["alice", "dan"]
    # systemd forgets units when it comes to it.
    host.wait_for("its units are gone", lambda: not host.sh("systemctl list-units --all --plain --no-legend 'csm-sam*' '*sam*.mount'"), 10)
    assert not product.processes(product.ids("sam"))
    assert not host.sh("ls /run/code-server-multi/front | grep sam || true")
    assert host.get("/var/lib/vscode/sam/workspace/kept.txt") == b"kept\n"

    product.add("sam")
    product.wait_ready("sam")
    product.wait_settled()
    sam = visit("sam")
    host.wait_for("the vhost is back", lambda: sam.get("/").status_code == 401, 10)
    assert product.sign_in(sam).status_code == 303
    assert sam.get("/healthz").status_code == 200
    assert product.inside("sam", "cat", "/home/coder/project/kept.txt", "/home/coder/.kept").stdout == "kept\nkept\n"
    assert product.main_pids("dan", "alice") == before
