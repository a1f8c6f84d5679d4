"""What another account of the host can do to the product's sockets, processes and files: a workspace's own account (which
is root in its container), its subordinate ids, somebody else's. Rows A4, A9, A14, A15, A16, A18, A19."""

import copy
import json
import re

import pytest
import tomli_w

from lab import env, raw

RUN = "/run/code-server-multi"
ADMIN, GATEWAY, SIGN_IN = f"{RUN}/admin.sock", f"{RUN}/gateway.sock", f"{RUN}/gateway/http.sock"

# Everything that systemd, a shell, Podman or an argument vector could take for more than a text.
ODD = {
    "LAB_PERCENT": "%n %h %i %% %",
    "LAB_DOLLAR": "$HOME ${PATH} $$ $(id) `id`",
    "LAB_QUOTES": "\"double\" 'single' \\\" \\",
    "LAB_ESCAPES": "\\n \\x41 \\u0041 \\055",
    "LAB_OPTIONS": "--privileged --user=0 -v /:/host,ro=true",
    "LAB_PROPERTY": "] User=root ; ExecStartPre=/bin/sh",
    "LAB_SPACES": "  two before, two after  ",
    "LAB_UNICODE": "zwölf \U0001f512 \u202eback",
}


def CONFIGURE(product):
    product.config["workspaces"]["dan"]["environment"] = ODD


@pytest.fixture(scope="module")
def actors(host, product):
    """Who knocks: how to become them, and which of the sockets open to them."""
    host.sh("useradd --system --user-group lab-stranger; useradd --system --user-group --groups csm-admin lab-admin")
    subuid = int(host.sh("sed -n 's/^csm-dan:\\([0-9]*\\):.*/\\1/p' /etc/subuid"))
    become = lambda user, *groups: ["setpriv", "--reuid", user, "--regid", user, *(groups or ("--init-groups",))]  # noqa: E731
    nobody = "--clear-groups"
    return {
        "a stranger": (become("lab-stranger"), set()),
        "dan's account, root in dan's container": (become("csm-dan"), set()),
        "dan's user 1000": (become(str(subuid + 999), nobody), set()),
        "another subordinate id of dan's": (become(str(subuid + 4242), nobody), set()),
        "the images' account": (become("code-server-multi-images"), set()),
        "the gateway": (become("code-server-multi-gateway"), {GATEWAY}),
        "nginx": (become("www-data", "--groups", "code-server-multi-web"), {SIGN_IN, "alice"}),
        "an admin": (become("lab-admin"), {ADMIN}),
    }


KNOCK = r"""
import errno, json, socket, sys
found = []
for path in sys.argv[1:]:
    s = socket.socket(socket.AF_UNIX)
    try:
        s.connect(path)
        found.append("open")
    except OSError as error:
        found.append(errno.errorcode[error.errno])
print(json.dumps(found))
"""


def test_each_socket_opens_to_one_account(host, product, actors):
    """A9, A15. Whoever reaches an editor's socket is in that workspace, so nobody but nginx does."""
    sockets = {ADMIN: ADMIN, GATEWAY: GATEWAY, SIGN_IN: SIGN_IN, "alice": f"{RUN}/run/alice/http.sock"}
    # The same by another path.
    paths = [*sockets.values(), f"{RUN}/front/alice.sock"]
    assert json.loads(host.run("python3", "-c", KNOCK, *paths).stdout) == ["open"] * 5
    found, expected = {}, {}
    for who, (become, opens) in actors.items():
        found[who] = json.loads(host.run(*become, "python3", "-c", KNOCK, *paths).stdout)
        expected[who] = ["open" if name in opens else "EACCES" for name in (*sockets, "alice")]
    assert found == expected


def test_who_is_in_the_group_no_more_is_refused(host, product, actors):
    """A15. A process keeps the groups that it was started with, so the socket's mode alone is no answer: the kernel's word
    on the user id is looked up at each connection. Subordinate ids are nobody's and in no group."""
    for who in ("a stranger", "dan's account, root in dan's container", "dan's user 1000", "nginx"):
        user = actors[who][0][2]
        become = ["setpriv", "--reuid", user, "--regid", user, "--groups", "csm-admin"]
        done = host.run(*become, "curl", "-s", "-i", "--unix-socket", ADMIN, "-X", "POST", "http://x/v1/workspaces/alice/stop")
        head, _, body = done.stdout.partition("\n\n")
        assert head.startswith("HTTP/1.1 403 ") and "application/problem+json" in head, done.stdout
        assert json.loads(body)["code"] == "not-permitted"
        done = host.run(*become, "csm", "status", check=1)
        assert "this socket is not for your account" in done.stderr and "csm-admin" in done.stderr and not done.stdout
    assert product.state("alice") == "ready"
    # A member is let in, and root's own gateway socket is not for members.
    assert host.run(*actors["an admin"][0], "csm", "status", "--json").returncode == 0
    done = host.run("setpriv", "--reuid", "lab-admin", "--regid", "lab-admin", "--groups", "code-server-multi-gateway", "curl", "-s", "--unix-socket", GATEWAY, "http://x/v1/watch")
    assert json.loads(done.stdout)["code"] == "not-permitted"


SEND_FDS = r"""
import array, socket, sys
path, rounds = sys.argv[1], int(sys.argv[2])
sent = open("/etc/hostname")
answers = []
for _ in range(rounds):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(path)
    fds = array.array("i", [sent.fileno()] * 250)
    s.sendmsg([b"GET /v1/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    answers.append(s.recv(65536).split(b" ")[1].decode())
print(" ".join(sorted(set(answers))))
"""


@pytest.mark.parametrize("path", [ADMIN, GATEWAY, SIGN_IN])
def test_descriptors_that_are_sent_along_are_not_kept(host, product, path):
    """A15. 5,000 of them: its own are few, and its limit is 1024."""
    unit = "code-server-multi-gateway.service" if path == SIGN_IN else "code-server-multi.service"
    host.run("curl", "-s", "--unix-socket", path, "-o", "/dev/null", "http://x/v1/version")
    pid = host.show(unit, "MainPID")
    count = lambda: int(host.sh('ls "/proc/$1/fd" | wc -l', pid))  # noqa: E731
    before = count()
    answers = host.run("python3", "-c", SEND_FDS, path, "20").stdout.split()
    assert answers == {ADMIN: ["200"], GATEWAY: ["404"], SIGN_IN: ["404"]}[path]
    host.wait_for("they are closed", lambda: count() <= before + 2, 10)
    assert host.show(unit, "MainPID") == pid


# Connects, hands the connection to its parent, and becomes a program that runs as root (setuid) and waits: by then its process
# id is root's, and the connection is still a stranger's. "$1" is the socket, the rest that program.
BECOMES_ROOT = r"""
import array, os, socket, sys, time
near, far = socket.socketpair()
child = os.fork()
if child == 0:
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    far.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [s.fileno()]))])
    hold, _ = os.pipe()
    os.dup2(hold, 0)
    os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
    os.execv(sys.argv[2], sys.argv[2:])
_, sent, _, _ = near.recvmsg(1, 64)
connection = socket.socket(fileno=array.array("i", sent[0][2])[0])
connection.settimeout(30)
uid, until = None, time.monotonic() + 60
while time.monotonic() < until:
    with open(f"/proc/{child}/status") as status:
        uid = next(line for line in status if line.startswith("Uid:")).split()[2]
    if uid == "0":
        break
connection.sendall(b"POST /v1/workspaces/alice/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
text = b""
try:
    while piece := connection.recv(65536):
        text += piece
finally:
    print(uid, text.decode(), flush=True)
    try:
        os.kill(child, 9)
    except PermissionError:
        pass  # it is root's; the pipe that it waits for ends with us
"""


def test_a_process_that_is_roots_by_now_asked_as_who_it_was(host, product, actors):
    """A15. Who asks is told by the connection, which the kernel remembers, and never by a process id, whose owner may be
    another by the time it is looked up."""
    become = ["setpriv", "--reuid", "lab-stranger", "--regid", "lab-stranger", "--groups", "csm-admin"]
    done = host.run(*become, "python3", "-c", BECOMES_ROOT, ADMIN, "/usr/bin/passwd")
    uid, _, answer = done.stdout.partition(" ")
    assert uid == "0", f"the story itself: the program did not become root: {done}"
    head, _, body = answer.partition("\n\n")
    assert head.startswith("HTTP/1.1 403 ") and json.loads(body)["code"] == "not-permitted", answer
    assert product.state("alice") == "ready"


# As root: puts "$2" of the host at "$3" in the container of process "$1". open_tree and move_mount (x86_64), since the host's
# path is not seen from in there.
SHOW_INSIDE = r"""
use strict;
my ($pid, $source, $target) = @ARGV;
open(my $space, "<", "/proc/$pid/ns/mnt") or die;
my $tree = syscall(428, -100, $source, 1);  # open_tree, OPEN_TREE_CLONE
die "open_tree: $!" if $tree < 0;
syscall(308, fileno($space), 0) == 0 or die "setns: $!";
my $empty = "";
syscall(429, $tree, $empty, -100, $target, 4) == 0 or die "move_mount: $!";  # MOVE_MOUNT_F_EMPTY_PATH
"""

ASK_FROM_INSIDE = r"""
import errno, socket
s = socket.socket(socket.AF_UNIX)
s.settimeout(30)
try:
    s.connect("/tmp/lab.sock")
    s.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    print(s.recv(65536).split(b" ")[1].decode())
except OSError as error:
    print(errno.errorcode[error.errno])
"""


@pytest.mark.parametrize("path", [ADMIN, GATEWAY])
def test_a_socket_that_is_shown_inside_by_mistake(host, product, path):
    """A15. As with other people's Docker sockets. It doesn't open to the container's user, nor to its root, which is dan's
    account; and were its mode anybody's, who connects would be refused all the same."""
    assert "LAB" not in product.inside_sh("dan", "find /run -name '*.sock' -printf '%p LAB\n' 2>/dev/null | grep -v '^/run/csm/http/' || true")
    product.inside_sh("dan", "touch /tmp/lab.sock")
    inner = max(product.pids("dan") & set(map(int, host.sh("pgrep -f 'code-server.*--socket'").split())))
    host.run("perl", "-e", SHOW_INSIDE, str(inner), path, "/tmp/lab.sock")
    ask = lambda *user: host.run(*_enter(product, "dan", *user), "python3", "-c", ASK_FROM_INSIDE).stdout.strip()  # noqa: E731
    mode = host.sh('stat -c %a "$1"', path)
    try:
        assert product.inside_sh("dan", "stat -c %F /tmp/lab.sock") == "socket"
        assert (ask(), ask("--user=0:0")) == ("EACCES", "EACCES")
        host.sh('chmod 0666 "$1"', path)
        assert (ask(), ask("--user=0:0")) == ("403", "403")
    finally:
        host.sh('chmod "$1" "$2"', mode, path)
        product.csm("restart", "dan")
        product.inside_sh("dan", "rm -f /tmp/lab.sock")


def _enter(product, name, *options):
    """As `inside`, with options of podman's exec."""
    argv = product.inside_argv(name)
    argv[4] = argv[4].replace("exec --interactive", " ".join(["exec --interactive", *options]))
    return argv


# Workspaces as a configuration may call them, and none is.
NO_NAMES = [
    "../x", "a/b", ".", "..", "", " ", "a b", "a.b", "a@b", "%n", "a%i", "\\x2d", "-rf", "--all", "a-", "-a", "a--exec-1", "A", "DAN", "ü", "a\u0000b", "a\nb", "a;b", "$(id)", "*",
    "1a", "admin", "portal", "www", "api", "auth", "a" * 28, "a_b", "a\u202eb",
]  # fmt: skip


def test_no_workspace_is_called_like_a_path_or_a_unit(host, product):
    """A14. Its name ends in paths, units, host names and arguments; it is refused by its key, and nothing comes into force."""
    loaded = product.csm("plan", "--json").stdout
    for name in NO_NAMES:
        config = copy.deepcopy(product.config)
        config["workspaces"][name] = product.workspace_table("dan") | {"account": "csm-sam2"}
        host.put("/etc/lab/odd.toml", tomli_w.dumps(config))
        done = host.run("csm", "check-config", "/etc/lab/odd.toml", check=2)
        assert "workspaces." in done.stdout + done.stderr and "name" in done.stdout + done.stderr, (name, done)
    assert product.csm("plan", "--json").stdout == loaded


NAMES = [
    "..", ".", "%2e%2e", "%2e%2e%2falice", "alice%2f", "alice%2fstop", "dan%2f..%2falice", "alice%00", "alice%0a", "alice%20", "%20alice", "ALICE", "alice.service",
    "alice@1", "alice%40", "csm-alice", "alice--exec-1", "\\x2d", "%5cx2d", "alice%25n", "%25i", "-rf", "--all", "*", "alice*", "al%69ce%3b", "$(id)", "%24%7bHOME%7d",
    "a" * 28, "a" * 5000, "%c3%a4lice", "xn--alice", "root", "admin", "code-server-multi",
]  # fmt: skip
NO_TEXT = ["%ff", "alice%c3"]


def routes():
    """Every path of the admin API that takes a name."""
    source = (env.CHECKOUT / "src" / "serve" / "admin.rs").read_text()
    found = sorted(set(re.findall(r'"(/v1/[^"]*\{name\}[^"]*)"', source)))
    assert len(found) >= 8
    return found


def test_no_odd_name_reaches_a_unit_or_a_path(host, product):
    """A14. In every path of the API that takes one, by every method."""
    before = host.sh("systemctl list-units --all --plain --no-legend 'csm*' 'run-code*' | awk '{ print $1, $3 }'; find /run/code-server-multi /var/lib/vscode /var/lib/code-server-multi -maxdepth 3 | sort")
    pid = product.daemon_pid()
    body = b'{"argon2": "x"}'
    asked = [(method, route, name) for route in routes() for name in NAMES + NO_TEXT for method in ("GET", "POST", "PUT", "DELETE")]
    requests = [
        raw.request(method, route.replace("{name}", name), body, "x", Content_Type="application/json", Content_Length=str(len(body)))
        for method, route, name in asked
    ]
    all_answers = raw.ask_unix(host, ADMIN, requests)
    for (method, route, name), answers in zip(asked, all_answers, strict=True):
        what = (method, route, name, answers.text)
        assert len(answers) == 1, what
        if answers == [404]:
            assert json.loads(answers.text.partition("\r\n\r\n")[2])["code"] in ("no-such-workspace", "no-such-path"), what
        elif name in NO_TEXT:
            assert answers in ([400], [405]), what
        else:
            # Of a path that takes something else than `body`, before the name is looked at.
            assert answers == [405] or (answers[0] in (400, 415, 422) and method != "GET"), what
    found = {answers[0] for (method, route, _), answers in zip(asked, all_answers, strict=True) if (method, route) == ("POST", "/v1/workspaces/{name}/stop")}
    assert found == {404, 400}
    assert product.daemon_pid() == pid
    assert before == host.sh("systemctl list-units --all --plain --no-legend 'csm*' 'run-code*' | awk '{ print $1, $3 }'; find /run/code-server-multi /var/lib/vscode /var/lib/code-server-multi -maxdepth 3 | sort")


def test_a_value_of_the_configuration_is_a_value_and_nothing_else(host, product):
    """A19. Through TOML, D-Bus, systemd's own expansion, Podman's arguments and the entrypoint, byte for byte."""
    inside = host.run(*product.inside_argv("dan", "cat", "/proc/1/environ")).stdout.split("\0")
    assert {name: value for name, _, value in (one.partition("=") for one in inside) if name in ODD} == ODD
    for key, value in {"User": "csm-dan", "ExecStartPre": "", "ExecStartPost": "", "Group": "", "AmbientCapabilities": "", "BindPaths": "", "RootDirectory": ""}.items():
        assert host.show("csm-dan.service", key) == value, key
    names = {pair.split("=")[0] for pair in host.show("csm-dan.service", "Environment").split()}
    assert names == {"HOME", "PATH", "XDG_RUNTIME_DIR", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF", "CONTAINERS_HELPER_BINARY_DIR"}
    assert "\nprivileged" not in host.run(*product.inside_argv("dan", "sh", "-c", "id -u; ls /")).stdout


REFUSED = {
    "workspaces.dan.environment.LAB": ("workspaces", "dan", "environment", {"LAB": "x\nUser=root"}),
    'workspaces.dan.environment."A=B"': ("workspaces", "dan", "environment", {"A=B": "x"}),
    'workspaces.dan.environment."A\\nB"': ("workspaces", "dan", "environment", {"A\nB": "x"}),
    "workspaces.dan.environment.PATH": ("workspaces", "dan", "environment", {"PATH": "/home/coder/bin"}),
    "workspaces.dan.environment.CSM_WORKSPACE": ("workspaces", "dan", "environment", {"CSM_WORKSPACE": "alice"}),
    "workspaces.dan.account": ("workspaces", "dan", "account", "root"),
    "workspaces.dan.account ": ("workspaces", "dan", "account", "csm-dan\nUser=root"),
    "workspaces.dan.account  ": ("workspaces", "dan", "account", "code-server-multi-gateway"),
    "workspaces.dan.account   ": ("workspaces", "dan", "account", "csm-alice"),
    "workspaces.dan.password_file": ("workspaces", "dan", "password_file", "/var/lib/vscode/dan/home/password"),
    "workspaces.dan.secret_environment.LAB": ("workspaces", "dan", "secret_environment", {"LAB": "/tmp/../var/lib/vscode/alice/home/key"}),
    "image.name": ("image", "name", "x --privileged"),
    "image.name ": ("image", "name", "--volume=/:/host"),
    "image.name  ": ("image", "name", "localhost/x:1\n--privileged"),
    "image.name   ": ("image", "name", "--privileged"),
    "domain": ("domain", "x.example; include /etc/passwd"),
    "nginx.unit": ("nginx", "unit", "nginx.service;x"),
    "nginx.unit ": ("nginx", "unit", "../csm-alice.service"),
    "nginx.certificate": ("nginx", "certificate", "/etc/x\n; include /etc/passwd"),
    "workspace_base": ("workspace_base", "/srv/../etc"),
}


def test_a_value_that_could_be_more_is_refused(host, product):
    """A19. Each by its key, and nothing comes into force."""
    for key, (*path, value) in REFUSED.items():
        config = copy.deepcopy(product.config)
        table = config
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = value
        host.put("/etc/lab/odd.toml", tomli_w.dumps(config))
        done = host.run("csm", "check-config", "/etc/lab/odd.toml", check=2)
        assert f"{key.strip()}: " in done.stdout + done.stderr, (key, done)


TOUCH = r"""
import errno, json, os, subprocess, sys
def tried(what):
    try:
        what()
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
def attached(pid):
    done = subprocess.run(["timeout", "20", "strace", "-qq", "-p", str(pid)], capture_output=True, text=True)
    return "EPERM" if "PTRACE" in done.stderr and "Operation not permitted" in done.stderr else done.stderr or "done"
found = []
for pid in map(int, sys.argv[1:]):
    found.append([
        tried(lambda: open(f"/proc/{pid}/environ").read()), tried(lambda: open(f"/proc/{pid}/mem", "rb").close()),
        tried(lambda: os.listdir(f"/proc/{pid}/fd")), tried(lambda: os.readlink(f"/proc/{pid}/root")),
        tried(lambda: os.kill(pid, 0)), attached(pid),
    ])
print(json.dumps(found))
"""


def test_nobody_looks_into_anothers_processes(host, product, actors):
    """A4, A16. Where environments, memory and descriptors hold what passwords and keys are made of."""
    host.run("curl", "-s", "--unix-socket", SIGN_IN, "-o", "/dev/null", "http://x/")  # so that it runs
    pids = [host.show(unit, "MainPID") for unit in ("code-server-multi.service", "code-server-multi-gateway.service", "csm-alice.service", "nginx.service")]
    others = ["EACCES"] * 4 + ["EPERM", "EPERM"]
    for who in ("a stranger", "dan's account, root in dan's container", "dan's user 1000", "the images' account", "an admin"):
        found = json.loads(host.run(*actors[who][0], "python3", "-c", TOUCH, *pids).stdout)
        assert found == [others] * 4, who
    # The gateway's memory holds sessions and password strings: it is closed to its own account too.
    own = json.loads(host.run(*actors["the gateway"][0], "python3", "-c", TOUCH, pids[1]).stdout)
    assert own == [["EACCES"] * 4 + ["done", "EPERM"]]


def test_the_bus_takes_no_orders(host, product, actors):
    """A4, A19. Any account may speak to systemd; none of them may order anything."""
    manager = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
    orders = {
        "StopUnit": ("ss", "csm-alice.service", "replace"),
        "FreezeUnit": ("s", "csm-alice.service"),
        "SetUnitProperties": ("sba(sv)", "csm-dan.service", "true", "1", "TasksMax", "t", "100000"),
        "AttachProcessesToUnit": ("ssau", "csm-alice.service", "/runtime", "1", host.show("csm-alice.service", "MainPID")),
        "StartTransientUnit": ("ssa(sv)a(sa(sv))", "csm-evil.service", "replace", "0", "0"),
    }
    # Whom the account database doesn't know, the bus doesn't even listen to.
    answers = {"dan's account, root in dan's container": "Access denied|authentication required", "an admin": "Access denied|authentication required",
               "dan's user 1000": "Transport endpoint is not connected|Connection reset|Broken pipe"}  # fmt: skip
    for who, answer in answers.items():
        for method, arguments in orders.items():
            done = host.run(*actors[who][0], "busctl", "--no-pager", "call", *manager, method, *arguments, check=1)
            assert re.search(answer, done.stderr), (who, method, done.stderr)
    assert product.state("alice") == "ready"


def test_root_writes_only_where_nobody_else_can(host, product):
    """A17, A18. Files that root makes in a directory of somebody else's could be links by then. In each of these, and in each
    directory above it, only root makes and removes names."""
    written = [
        "/var/lib/code-server-multi/intent", "/var/lib/code-server-multi/passwords", "/var/lib/code-server-multi/nginx/generations", "/var/lib/code-server-multi/nginx/current/.",
        "/var/lib/code-server-multi/podman/dan", "/var/lib/code-server-multi/accounts", "/var/lib/vscode/dan", f"{RUN}/front", f"{RUN}/secrets/dan", f"{RUN}/mounts/dan", f"{RUN}/run",
        f"{RUN}/gateway", "/etc/code-server-multi",
    ]  # fmt: skip
    lines = host.sh('for d; do d=$(realpath "$d"); while :; do stat -c "%u %a %n" "$d"; [ "$d" = / ] && break; d=${d%/*}; d=${d:-/}; done; done', *written).splitlines()
    assert len(lines) > 40
    loose = [line for line in lines if line.split()[0] != "0" or int(line.split()[1], 8) & 0o022]
    assert not loose
