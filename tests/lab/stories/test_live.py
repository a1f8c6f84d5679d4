"""The live view: what happened and who did it."""

import contextlib
import json
import subprocess

from lab import pace
from lab.lines import Lines
from lab.product import DAEMON


@contextlib.contextmanager
def following(host, *argv):
    """`csm events -f --json`; gives a function that returns the next event of that kind, once somebody listens."""
    with Lines(host.start("csm", "events", "--follow", "--json", "-n", "1", *argv, stderr=subprocess.DEVNULL, text=True)) as lines:

        def until(kind, workspace=None, deadline=30):
            end = pace.clock() + deadline
            while True:
                event = json.loads(lines.next(end - pace.clock()))
                seen.append(event)
                if (event["kind"], event.get("workspace")) == (kind, workspace):
                    return event

        # The past is read after the follower listens.
        lines.next()
        until.seen = seen = []
        yield until


def events(product, *argv):
    """All that the daemon told before: the journal takes its time."""
    product.host.sh("journalctl --sync")
    return [json.loads(line) for line in product.csm("events", "--json", *argv).stdout.splitlines()]


def kinds(events):
    return [event["kind"] for event in events]


def test_what_happened_is_told_with_who_did_it(product):
    product.csm("stop", "dan")
    product.csm("start", "dan")
    product.csm("restart", "dan")
    told = events(product, "dan")
    expected = ["starting", "ready", "stopping", "stopped", "starting", "ready", "stopping", "starting", "ready"]
    assert kinds(told)[-9:] == expected
    told = told[-9:]
    assert [event["message"] for event in told[2:5]] == [
        "stopping: csm stop by root",
        "stopped: csm stop by root",
        "starting: csm start by root",
    ]
    assert [event.get("why") for event in told[6:8]] == ["csm restart by root"] * 2
    assert {event["by"] for event in told[2:5]} == {"admin"}
    assert [event["at"] for event in told] == sorted(event["at"] for event in told)
    # The same words in the status.
    assert product.workspace("dan")["intent"]["why"] == "csm restart by root"
    lines = product.csm("events", "dan", "-n", "2").stdout.splitlines()
    assert [line.split("Z ", 1)[1] for line in lines] == ["dan starting: csm restart by root", "dan ready"]


def test_a_follower_sees_it_as_it_happens_and_over_a_restart_of_the_daemon(host, product):
    with following(host) as until:
        product.csm("stop", "alice")
        assert until("stopping", "alice")["why"] == "csm stop by root"
        until("stopped", "alice")
        host.sh('systemctl restart "$1"', DAEMON)
        until("daemon-started")
        product.csm("start", "alice")
        until("ready", "alice")
        pid = product.daemon_pid()
        host.sh('kill -KILL "$1"', str(pid))
        until("daemon-started")
        product.wait_ready()
        product.csm("restart", "alice")
        until("ready", "alice")
        ids = [event["id"] for event in until.seen]
        assert len(ids) == len(set(ids))
        # None was told twice, and none again by a new daemon.
        assert [kind for kind in kinds(until.seen) if kind != "configuration-read"] == [
            "stopping", "stopped", "daemon-started", "starting", "ready",
            "daemon-started", "stopping", "starting", "ready",
        ]  # fmt: skip
    assert kinds(events(product, "alice"))[-7:] == ["stopping", "stopped", "starting", "ready", "stopping", "starting", "ready"]


def test_changes_of_the_configuration_are_told(host, product):
    with following(host, "sam") as until:
        product.config["workspaces"]["sam"]["memory_limit"] = "1G"
        product.reload()
        assert until("limits-changed", "sam")["message"] == "limits are now 1G of memory, 1.5 cores, 4096 tasks"
        product.config["workspaces"]["sam"]["environment"] = {"A": "b"}
        product.reload()
        assert until("pending", "sam")["message"] == "waits for a restart: environment"
        product.config["workspaces"]["sam"]["enabled"] = False
        product.reload()
        assert until("disabled", "sam")["why"] == "enabled = false in the configuration"
        product.remove("sam")
        until("removed", "sam")
        product.add("sam")
        until("ready", "sam")
    # A refused one is told once, however often it is looked at.
    product.config["workspaces"]["sam"]["memory_limit"] = "much"
    product.write_config()
    host.wait_for("it is refused", lambda: "configuration-refused" in kinds(events(product)), 10)
    product.csm("reload", check=2)
    assert kinds(events(product)).count("configuration-refused") == 1
    del product.config["workspaces"]["sam"]["memory_limit"]
    product.reload()


def test_what_blocks_a_workspace_is_told_with_its_code(host, product):
    product.csm("stop", "sam")
    host.sh("mv /etc/lab/passwords/sam /etc/lab/passwords/away")
    try:
        product.csm("start", "sam", check=False)
        host.wait_for("it is told", lambda: "password-unusable" in [event.get("code") for event in events(product, "sam")], 20)
        blocked = next(event for event in events(product, "sam") if event.get("code") == "password-unusable")
        assert blocked["kind"] == "blocked" and "/etc/lab/passwords/sam" in blocked["message"]
    finally:
        host.sh("mv /etc/lab/passwords/away /etc/lab/passwords/sam")
    product.wait_ready("sam")
    assert "starting: nothing keeps it from starting any more" in [event["message"] for event in events(product, "sam")]


def test_a_refused_caller_is_told_once_a_minute(host, product):
    """Who is in the group by its process alone gets past the socket's mode, not past the daemon."""
    call = ("setpriv", "--reuid=nobody", "--regid=csm-admin", "--clear-groups", "csm", "status")
    for _ in range(3):
        assert host.run(*call, check=1).stdout == ""
    nobody = host.sh("id -u nobody")
    refused = [event for event in events(product) if event["kind"] == "caller-refused"]
    assert len(refused) == 1
    assert refused[0]["by"] == nobody
    assert refused[0]["message"] == f"user {nobody} may not use admin.sock, and was refused"


def test_refused_sign_ins_are_told_with_the_address(host, product, visit):
    for _ in range(3):
        assert product.sign_in(visit("dan"), password="wrong").status_code == 401
    host.wait_for("it is told", lambda: "sign-in-refused" in kinds(events(product, "dan")), 20)
    refused = [event for event in events(product, "dan") if event["kind"] == "sign-in-refused"]
    # Once a minute, and no word of the form.
    assert len(refused) == 1
    assert refused[0]["why"] == "wrong password"
    assert refused[0]["message"] == f"a sign-in from {refused[0]['by']} was refused: wrong password"
    with following(host, "alice") as until:
        assert product.sign_in(visit("alice"), password="wrong").status_code == 401
        assert until("sign-in-refused", "alice")["why"] == "wrong password"


# What the kernel counts only where the controller is there, by its name.
OF_CONTROLLERS = {"memory": ("memory_bytes", "memory_peak_bytes", "oom_kills"), "pids": ("tasks",)}


def test_what_the_host_does_not_count_is_not_shown_as_zero(host, product):
    """Hosts of namespaces have what the machine's own cgroups leave them, often none: processor time is always counted."""
    product.wait_ready()
    product.csm("stop", "sam")
    usage = {own["name"]: own for own in json.loads(product.csm("top", "--json", "--disk").stdout)["workspaces"]}
    assert usage["sam"]["state"] == "stopped" and usage["sam"]["counts"] is None
    counts = usage["dan"]["counts"]
    there = set(host.sh("cat /sys/fs/cgroup/cgroup.controllers").split())
    lacking = {name for controller, names in OF_CONTROLLERS.items() for name in names if controller not in there}
    assert {name for names in OF_CONTROLLERS.values() for name in names if counts[name] is None} == lacking, counts
    assert counts["cpu_usec"] > 100_000 and 0 <= counts["cpu_cores"] < 2
    disk = int(host.sh("du --summarize --total --block-size=1 /var/lib/vscode/dan/* | tail -n 1 | cut -f 1"))
    assert abs(usage["dan"]["disk_bytes"] - disk) < 1 << 20
    assert usage["sam"]["disk_bytes"] > 0, "a stopped workspace has a home too"
    rows = {line.split()[0]: line.split() for line in product.csm("top", "--disk").stdout.splitlines()}
    assert rows["dan"][1] == "ready" and rows["dan"][3:5] == ["of", "1.5"]
    pressure = [name for name in ("cpu", "memory", "io") if counts[f"pressure_{name}"] is not None]
    # The kernel may or may not have it; what the file says is what is shown.
    group = host.show("csm-dan.service", "ControlGroup")
    assert pressure == host.sh('for one in cpu memory io; do [ ! -e "/sys/fs/cgroup$1/$one.pressure" ] || echo $one; done', group).split()
    # In three columns: memory, tasks, kills.
    assert rows["dan"].count("n/a") == len(lacking - {"memory_peak_bytes"}), rows["dan"]
    assert rows["sam"][2:7] == ["-"] * 5, rows["sam"]
    assert "memory_bytes" in product.csm("status", "dan", "--json").stdout
    # du ran as the account, and nothing of it is left.
    assert not host.sh("systemctl list-units --all --plain --no-legend 'csm-*--disk-*'")
    product.csm("start", "sam")


def test_a_busy_loop_is_seen(host, product):
    loop = host.start(*product.inside_argv("dan", "bash", "-c", "while :; do :; done"))
    try:
        # How much it gets is this machine's affair; that it is more than the others get is the loop's.
        def busiest():
            return cores(product, "dan") > max(0.03, 3 * cores(product, "alice"))

        host.wait_for("dan is the busy one", busiest, 60)
        host.wait_for("the busiest comes first", lambda: product.csm("top").stdout.splitlines()[1].startswith("dan "))
    finally:
        product.inside("dan", "pkill", "-f", "while :; do :; done", check=False)
        loop.kill()
        loop.wait()


def cores(product, name):
    return json.loads(product.csm("top", name, "--json").stdout)["workspaces"][0]["counts"]["cpu_cores"]


def test_nobody_else_can_make_an_event(host, product):
    """An entry with our MESSAGE_ID that came from elsewhere: also when root wrote it."""
    entry = "\n".join(
        [
            "MESSAGE=dan: stopped: by a liar",
            "MESSAGE_ID=5cd51dd1ace71b939aec616a49da436a",
            "CSM_ID=1-1",
            "CSM_AT=1772366400000000",
            "CSM_EVENT=stopped",
            "CSM_WORKSPACE=dan",
        ]
    )
    host.run("logger", "--journald", input=entry + "\n")
    host.wait_for("it is in the journal", lambda: "by a liar" in host.journal(), 20)
    assert not [event for event in events(product, "-n", "1000") if "liar" in event["message"]]
