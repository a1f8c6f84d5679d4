"""The lab gives what it promises: without this, no other story means anything."""

import asyncio
import concurrent.futures
import os
import subprocess
import time

import pytest
from playwright.sync_api import Error

from lab import crowd, dice, env, host as hosts, needs, pace, wait
from lab.browser import Browser
from lab.client import Client
from lab.host import Host
from lab.pki import Pki
from lab.product import Product

PRODUCT = False

SITE = """
server {
  listen 443 ssl;
  server_name *.code.example.test;
  ssl_certificate /etc/lab/certificate.pem;
  ssl_certificate_key /etc/lab/key.pem;
  default_type text/html;
  location / { return 200 "<title>here is $host</title><p id=name>$host"; }
}
"""


def serve(host, pki):
    host.put("/etc/lab/certificate.pem", pki.certificate)
    host.put("/etc/lab/key.pem", pki.key, 0o600)
    host.put("/etc/nginx/conf.d/lab.conf", SITE)
    host.sh("nginx -t; systemctl restart nginx")


@pytest.fixture(scope="module")
def site(host, pki):
    serve(host, pki)


def test_ns_is_a_host_of_its_own(host):
    assert host.kind == "ns"
    assert host.run("systemctl", "is-system-running").stdout.strip() == "running"
    assert host.run("ps", "-o", "comm=", "-p", "1").stdout.strip() == "systemd"
    assert host.run("sh", "-c", "exit 7", check=7)
    with pytest.raises(hosts.Failed):
        host.run("false")
    host.put("/etc/lab/some", "text\n", 0o640, "root:www-data")
    assert host.get("/etc/lab/some") == b"text\n"
    assert host.sh("stat -c '%a %U:%G' /etc/lab/some") == "640 root:www-data"
    # No way out, whatever the build machine can reach.
    host.run("curl", "--silent", "--max-time", "2", "http://1.1.1.1/", check=28)


def test_clients_reach_nginx_by_name_and_trust_only_the_lab(host, pki, site, visit, tmp_path):
    assert visit("dan").get("/").text == "<title>here is dan.code.example.test</title><p id=name>dan.code.example.test"
    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
        Client(host, Pki(tmp_path), "dan").get("/")


def test_chromium_opens_a_page_with_the_certificate_checked(host, browser, site, pki, tmp_path):
    page = browser.visitor().new_page()
    page.goto(browser.url("dan"))
    assert page.title() == "here is dan.code.example.test"
    assert browser.picture(page, "lab itself").stat().st_size > 1000
    # The same browser with another authority refuses: so the check above was one.
    with Browser(host, Pki(tmp_path / "pki"), tmp_path, tmp_path) as other, pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
        other.visitor().new_page().goto(other.url("dan"))


def test_a_process_of_a_workspace_that_is_in_no_unit_of_its_own_is_found(host, pki):
    """Whatever runs in a container has a subordinate id: looking for the account's own would find none of it."""
    product = Product(host, pki, people=["dan"])
    host.sh("useradd --system csm-dan; echo csm-dan:500000:65536 | tee -a /etc/subuid >>/etc/subgid")
    ids = product.ids("dan")
    as_user = ("setpriv", "--reuid=500999", "--clear-groups", "sleep", "1000")
    with host.service("stray", *as_user) as unit:
        host.wait_for("it is found", lambda: {int(host.show(unit, "MainPID")): f"/system.slice/{unit} sleep"} == product.strays("dan")["dan"], 10)
        host.sh("userdel csm-dan; sed -i /^csm-dan:/d /etc/subuid /etc/subgid")
        assert product.processes(ids), "not found any more once the account is gone"
        host.run("systemd-run", "--quiet", "--collect", "--unit=csm-dan--lab-1", *as_user)
        # systemd-run gives back before its process has become that user.
        host.wait_for("both are found", lambda: len(product.processes(ids)) == 2, 10)
    host.run("systemctl", "stop", "csm-dan--lab-1.service")
    assert not product.processes(ids)


def test_down_leaves_nothing_and_takes_everything_with_it():
    with Host("brief") as brief:
        brief.sh("systemd-run --quiet --unit=stubborn bash -c 'trap \"\" TERM; while :; do sleep 1000; done'")
        address = brief.address[0]
        with subprocess.Popen(["sleep", "1000"]) as stray:
            # What the check at the end of a run looks for is found while it is there.
            assert {"host", "cgroup", "link", "process"} <= {found.split()[0] for found in hosts.left_behind()}
            stray.kill()
    assert not [found for found in hosts.left_behind() if "brief" in found or "sleep" in found]
    assert subprocess.run(["ip", "route", "show", f"{address}/32"], capture_output=True, text=True).stdout == ""


def test_hosts_of_a_killed_run_are_found_and_removed(monkeypatch):
    with subprocess.Popen(["sleep", "1000"]) as run:
        # One whose number belongs to somebody else by now, and one that goes on.
        monkeypatch.setattr(env, "RUN", f"r{run.pid}x1")
        forgotten = Host("forgotten")
        forgotten.up()
        monkeypatch.setattr(env, "RUN", f"fill-{env.process(run.pid)}")
        filling = Host("still")
        filling.up()
        hosts.of_runs_that_died()
        assert not forgotten.directory.exists() and filling.directory.exists()
        run.kill()
        run.wait()
        hosts.of_runs_that_died()
        assert not filling.directory.exists()
    assert not hosts.left_behind()


def test_waiting_has_a_deadline_and_says_what_for():
    begun = time.monotonic()
    with pytest.raises(wait.TimedOut, match=r"not within 0.3 s \(\d+ s beside what else ran\): the moon; last answer: LookupError"):
        wait.until("the moon", _no_moon, 0.3)
    with pytest.raises(wait.TimedOut, match="the sun; last answer: False"):
        wait.until("the sun", lambda: False, 0.1)
    assert time.monotonic() - begun < 2 / pace.SLOWEST


def test_what_comes_true_too_late_is_too_late():
    """A question that was asked in time counts, however long its answer takes."""
    begun = pace.clock()
    with pytest.raises(wait.TimedOut):
        wait.until("the tide", lambda: pace.clock() - begun > 0.25, 0.2, every=0.3)
    assert wait.until("the mail", lambda: time.sleep(0.3) or "it", 0.1) == "it"


def _no_moon():
    raise LookupError("no moon")


def _stat(running, blocked):
    return f"cpu  1 2 3\nprocs_running {running}\nprocs_blocked {blocked}\n"


@pytest.mark.parametrize(
    "running, blocked, share",
    [(1, 0, 1), (3, 0, 1), (5, 0, 0.5), (4, 1, 0.5), (1000, 0, pace.SLOWEST)],
    ids=["nobody else", "one each", "two each", "those that wait for a disk", "a bomb"],
)
def test_a_clock_goes_as_fast_as_the_machine_lets_one(running, blocked, share):
    """On two processors; whoever looks doesn't count."""
    assert pace.share(_stat(running, blocked), 2) == share


def test_a_clock_goes_slower_beside_others_and_never_faster():
    begun, wall = pace.clock(), time.monotonic()
    burn = ["prlimit", "--cpu=20", "sh", "-c", "while :; do :; done"]
    others = [subprocess.Popen(burn) for _ in range(3 * len(os.sched_getaffinity(0)))]
    try:
        wait.until("a second of a machine that three want to have", lambda: pace.clock() - begun > 1, 3)
        assert time.monotonic() - wall > 1.5
    finally:
        for one in others:
            one.kill()
            one.wait()


def test_it_is_drawn_until_enough_were_met():
    """Others each time, unless the seed is the same; and all in their order."""
    draw, drawn = dice.Draw(dice.of("story"), range(20), "3"), []
    while (one := draw.next()) is not None:
        drawn.append(one)
        draw.took(one, len(drawn) % 2 == 0)
    assert len(set(drawn)) == len(drawn) == 6
    assert dice.of("story").random() == dice.of("story").random() != dice.of("another").random()
    everything = dice.Draw(dice.of("story"), "abc", "all")
    taken = []
    while (one := everything.next()) is not None:
        taken.append(one)
        # The third comes up when it is tried for the second time, and the second never.
        everything.took(one, one == "a" or one == "c" and taken.count("c") == 2)
    assert taken == ["a", "b", "c", "b", "c", "b"] and everything.met == 2
    none_is_met = dice.Draw(dice.of("story"), "abc", "2")
    assert sorted(none_is_met.next() for _ in range(3)) == ["a", "b", "c"] and none_is_met.next() is None


def test_what_a_worker_left_is_told_by_its_name(monkeypatch):
    """Also when the worker is no more: then by the process that it worked for."""
    whole = env.RUN
    monkeypatch.setattr(env, "RUN", f"{whole}-gw99")
    left = Host("left")
    left.up()
    try:
        assert any(f"{whole}-gw99-left" in line for line in hosts.left_behind())
        monkeypatch.setattr(env, "RUN", whole.removesuffix(f"-{env.WORKER}"))
        assert f"host {left.directory}" in hosts.left_behind()
    finally:
        left.down()


def test_needs_choose_the_kind():
    assert needs.kind_for(set()) == "ns"
    assert needs.kind_for({"reboot"}) == "vm"
    with pytest.raises(ValueError, match="'swimming'"):
        needs.kind_for({"swimming"})


def test_a_window_that_is_closed_in_the_moment_of_an_answer_ends():
    """Or it goes on to ask, and whoever closes it waits for ever."""

    class Socket:
        async def ping(self):
            self.answer = asyncio.get_running_loop().create_future()
            return self.answer

    async def play():
        window = crowd._Window(client=None)
        window._socket = Socket()
        asking = asyncio.create_task(window._ask())
        while not hasattr(window._socket, "answer"):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        window._socket.answer.set_result(None)
        asking.cancel()
        await asyncio.wait([asking], timeout=1)
        return asking.cancelled()

    # In a thread of its own: where a browser was used, this one has a loop already.
    with concurrent.futures.ThreadPoolExecutor() as other:
        assert other.submit(asyncio.run, play()).result()
