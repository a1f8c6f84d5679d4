"""The configuration file and the verbs of `csm`: what they say, and with which exit code."""

import json

import pytest
import tomli_w

from lab import wait
from lab.lines import Lines
from lab.product import CONFIG, DAEMON, GATEWAY

BAD = """
domain = "code.example.test"
colour = "green"
[image]
name = "localhost/code-server-multi/workspace:1"
[nginx]
certificate = "/etc/lab/certificate.pem"
certificate_key = "etc/lab/key.pem"
[workspaces.dan]
port = 80
cpu_limit = 0
[workspaces.alice]
account = "root"
memory_limit = "1G"
memory_soft_limit = "2G"
[workspaces.Admin]
[workspaces.sam]
environment = { "1BAD" = "x" }
"""

KEYS = [
    "colour",
    "nginx.certificate_key",
    "workspaces.dan.port",
    "workspaces.dan.cpu_limit",
    "workspaces.alice.account",
    "workspaces.alice.memory_soft_limit",
    "workspaces.Admin",
    "workspaces.sam.environment",
]


def test_check_config_reports_every_problem_at_once(host, product):
    host.put("/etc/lab/bad.toml", BAD)
    done = product.csm("check-config", "/etc/lab/bad.toml", check=2)
    for key in KEYS:
        assert key in done.stderr, key
    reported = json.loads(product.csm("check-config", "/etc/lab/bad.toml", "--json", check=2).stdout)
    assert len(reported["problems"]) >= len(KEYS) and not reported["ok"]
    assert all(problem["hint"] for problem in reported["problems"])
    product.csm("check-config", CONFIG)
    product.csm("check-config", "/etc/lab/absent.toml", check=2)


def test_a_bad_file_changes_nothing_and_status_says_so(host, product):
    before, intents = product.main_pids(), host.sh("ls -l --time-style=full-iso /var/lib/code-server-multi/intent")
    status = product.status()
    host.put(CONFIG, BAD)
    done = product.csm("reload", check=2)
    for key in KEYS:
        assert key in done.stderr, key
    said = product.status()
    assert {problem["key"].split("[")[0] for problem in said["configuration"]["problems"]} >= set(KEYS[:-1])
    assert said["configuration"]["loaded_at"] == status["configuration"]["loaded_at"]
    text = product.csm("status").stdout
    assert "stays in force" in text and "workspaces.dan.port" in text
    assert product.is_settled()
    assert product.main_pids() == before
    assert host.sh("ls -l --time-style=full-iso /var/lib/code-server-multi/intent") == intents

    # Neither does a file that is not TOML, or none at all.
    host.put(CONFIG, "domain = \n")
    assert "line 1" in product.csm("reload", check=2).stderr
    host.sh('rm "$1"', CONFIG)
    product.csm("reload", check=2)
    assert product.main_pids() == before

    # A good one ends the complaint without a word from anybody: the file is watched.
    product.write_config()
    host.wait_for("no problems", lambda: not product.status()["configuration"]["problems"], 10)
    assert product.main_pids() == before


def test_a_changed_file_is_noticed_without_reload(host, product):
    product.config["workspaces"]["dan"]["tasks_max"] = 1234
    product.write_config()
    host.wait_for("the limit", lambda: host.show("csm-dan.service", "TasksMax") == "1234", 10)


def test_systemctl_reload(host, product):
    pid = product.daemon_pid()
    for limit in ("2345", "3456"):
        product.config["workspaces"]["dan"]["tasks_max"] = int(limit)
        product.write_config()
        host.sh('systemctl reload "$1"', DAEMON)
        host.wait_for("the limit", lambda limit=limit: host.show("csm-dan.service", "TasksMax") == limit, 5)
    assert product.daemon_pid() == pid
    # Told again and again, it is still the same, and says so to systemd each time.
    for _ in range(20):
        host.sh('systemctl reload "$1"', DAEMON)
    assert host.show(DAEMON, "ActiveState") == "active" and product.daemon_pid() == pid


def test_a_password_without_a_file(host, product, visit):
    del product.config["workspaces"]["sam"]["password_file"]
    product.reload()
    # None set: nobody gets in.
    assert product.sign_in(visit("sam")).status_code == 401
    made = product.csm("password", "sam", "--generate").stdout.strip()
    assert len(made) >= 20
    sam = visit("sam")
    # Seldom: of wrong ones only so many are taken.
    wait.until("the generated one works", lambda: product.sign_in(sam, password=made).status_code == 303, 5, every=0.5)
    product.csm("password", "sam", input="typed in by somebody\n")
    host.wait_for("the old session ended", lambda: sam.get("/healthz").status_code == 401, 2)
    assert product.sign_in(visit("sam"), password=made).status_code == 401
    assert product.sign_in(visit("sam"), password="typed in by somebody").status_code == 303
    # Only its hash is kept, by root alone.
    kept = "/var/lib/code-server-multi/passwords/sam.argon2"
    assert host.sh('stat -c "%a %U" "$1"', kept) == "600 root"
    assert b"$argon2id$" in host.get(kept) and b"typed in" not in host.get(kept)
    # It outlives the daemon.
    host.sh('systemctl restart "$1"', DAEMON)
    product.wait_ready("sam")
    assert product.sign_in(visit("sam"), password="typed in by somebody").status_code == 303
    product.csm("password", "sam", input="short\n", check=2)
    # One that is configured by a file is not changed behind the file's back.
    assert product.csm("password", "dan", input="something else\n", check=1).stderr


def test_test_says_what_works_inside(product):
    done = product.csm("test", "dan", timeout=120)
    for what in ("git", "node", "python", "opencode", "claude", "websocket", "terminal", "home", "health"):
        assert what in done.stdout.lower(), what
    assert "fail" not in done.stdout
    report = json.loads(product.csm("test", "dan", "--json", timeout=120).stdout)
    assert all(check["ok"] and check["detail"] for check in report["checks"])


def test_test_says_what_does_not_work(product):
    # As a user might: a home that can't be written to.
    product.inside_sh("dan", "chmod a-w /home/coder")
    try:
        done = product.csm("test", "dan", check=1, timeout=120)
        line = next(line for line in done.stdout.lower().splitlines() if "home" in line)
        assert line.startswith("fail")
    finally:
        product.inside_sh("dan", "chmod u+w /home/coder")


def test_doctor_names_each_problem_with_its_fix(host, product):
    done = product.csm("doctor", check=False)
    said = json.loads(product.csm("doctor", "--json", check=False).stdout)
    for name in ("kernel", "systemd", "podman", "nginx", "util-linux"):
        assert name in done.stdout.lower(), name
    # Three times 3G by default on what this machine has, and no controllers in a host of namespaces: whatever is
    # found has a fix.
    assert said
    host.sh("mv /etc/nginx/conf.d/code-server-multi.conf /etc/lab/; systemctl restart nginx; cp /etc/subuid /etc/lab/; sed -i '/^csm-sam:/d' /etc/subuid")
    try:
        wrong = product.csm("doctor", check=1).stdout
        lines = wrong.splitlines()
        for what, fix in (("nginx/current", "include /var/lib/code-server-multi/nginx/current/*.conf"), ("csm-sam", "/etc/subuid")):
            at = next((number for number, line in enumerate(lines) if line.startswith("fail") and what in line), None)
            assert at and fix in lines[at + 1], (what, wrong)
    finally:
        host.sh("mv /etc/lab/code-server-multi.conf /etc/nginx/conf.d/; cp /etc/lab/subuid /etc/subuid; systemctl restart nginx")


def test_logs_are_shown_and_followed(host, product):
    product.csm("restart", "dan")
    listening = "HTTP server listening"
    # The journal takes its time.
    host.wait_for("the line", lambda: listening in product.csm("logs", "dan").stdout, 10)
    with Lines(host.start("csm", "logs", "dan", "--follow", text=True)) as following:
        while listening not in following.next():
            pass
        product.csm("restart", "dan")
        while listening not in following.next():
            pass


def test_control_characters_of_a_workspace_do_nothing_to_a_terminal(host, product):
    host.put("/etc/lab/said", b"\x1b[31mcrimson\x07 \x1b]0;title\x07 \xe2\x80\xae\n")

    def said_and_shown():
        """Written from within the unit's cgroup, as the editor writes. A writer that has ended before journald looked at
        its cgroup is nobody's, so it is written again until it counts."""
        host.sh(
            "busctl -- call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager "
            "AttachProcessesToUnit ssau csm-dan.service /runtime 1 $$ >/dev/null; systemd-cat --identifier=inside </etc/lab/said"
        )
        return "crimson" in product.csm("logs", "dan").stdout

    host.wait_for("the line", said_and_shown, 30)
    shown = product.csm("logs", "dan").stdout
    assert not {"\x1b", "\x07", "\u202e"} & set(shown), shown
    assert "\x1b" not in product.csm("logs", "dan", "-n", "5", "--json").stdout


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["status"], 0),
        (["status", "dan"], 0),
        (["status", "nobody"], 1),
        (["start", "nobody"], 1),
        (["stop", "nobody"], 1),
        (["status", "../etc"], 2),
        (["frobnicate"], 2),
        (["stop"], 2),
        (["--socket", "/run/nothing.sock", "status"], 3),
        (["version"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_exit_codes(product, argv, code):
    done = product.csm(*argv, check=code)
    assert done.stdout or done.stderr


def test_who_may_ask_the_daemon(host, product):
    """Root and the group csm-admin; nobody else, however the socket's file mode may look."""
    host.sh("useradd --create-home admin --groups csm-admin; useradd --create-home guest")
    as_user = lambda name, *argv: host.run("runuser", "-u", name, "--", "csm", *argv, check=False)  # noqa: E731
    assert as_user("admin", "status").returncode == 0
    assert as_user("guest", "status").returncode == 3
    host.sh("chmod 0666 /run/code-server-multi/admin.sock")
    for name in ("guest", "csm-dan"):
        refused = as_user(name, "status")
        assert refused.returncode in (1, 3) and refused.stderr and not refused.stdout, refused
    assert as_user("admin", "status").returncode == 0
    host.sh("chmod 0660 /run/code-server-multi/admin.sock")


def test_the_daemon_away(host, product):
    host.sh('systemctl stop "$1"', DAEMON)
    try:
        done = product.csm("status", check=3)
        assert "systemctl status code-server-multi" in done.stderr
        # Editors and sign-in go on without it.
        with product.visitor("dan") as dan:
            assert dan.get("/healthz").status_code == 200
    finally:
        host.sh('systemctl start "$1"', DAEMON)
    product.wait_ready()


def test_a_bad_file_at_the_start(host, product):
    """No last good one is known: the daemon says what is wrong and leaves everything as it is."""
    before = product.main_pids()
    host.put(CONFIG, BAD)
    host.sh("journalctl --sync")
    until_now = host.sh("journalctl --lines=0 --show-cursor").split("cursor: ")[1]
    host.run("systemctl", "restart", DAEMON, check=False)
    host.wait_for("it says why", lambda: "workspaces.dan.port" in host.journal(DAEMON, f"--after-cursor={until_now}"), 20)
    assert product.main_pids() == before
    host.put(CONFIG, tomli_w.dumps(product.config))
    host.run("systemctl", "reset-failed", DAEMON, check=False)
    host.sh('systemctl restart "$1"', DAEMON)
    product.wait_ready()
    assert product.main_pids() == before
    assert host.show(GATEWAY, "ActiveState") == "active"
