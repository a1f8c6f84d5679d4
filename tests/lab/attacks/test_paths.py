"""What is put where root reads or writes below a directory of somebody else's: a home, the socket's directory, the runtime
directory. Rows A17, A18. Also what no workspace can do itself, but a restored backup or a process outside could."""

import json

import pytest

from lab import pace
from lab.product import DAEMON

HOME = "/var/lib/vscode/dan/home"
RUN = "/run/code-server-multi"
# Something of root's, on the file system of the homes, so that a hard link can lead to it.
TREASURE = "/var/lib/lab-treasure"
OUTSIDE = "/var/lib/lab-outside"


@pytest.fixture(scope="module", autouse=True)
def treasure(host, product):
    host.sh('echo of root >"$1"; chmod 0600 "$1"; mkdir -p "$2/share"; chown csm-dan: "$2" "$2/share"', TREASURE, OUTSIDE)


@pytest.fixture(autouse=True)
def nothing_outside_is_touched(host, product, treasure):
    seen = lambda: host.sh('stat -c "%n %F %a %U %s %Y" /etc "$1" "$2" "$2/share"; cat "$1"; find /etc /root "$2" -path /etc/lab -prune -o -printf "%p %U:%G %m %s %l\\n" | LC_ALL=C sort | sha256sum', TREASURE, OUTSIDE)  # noqa: E731
    before, others, pid = seen(), product.main_pids("alice", "sam"), product.daemon_pid()
    yield
    assert seen() == before
    assert product.main_pids("alice", "sam") == others and product.daemon_pid() == pid
    if product.state("dan") != "stopped":
        product.wait_ready("dan")


@pytest.fixture
def running(product):
    """For whoever needs dan's editor; a start for each kind of obstacle, after which it can start again, would show no more than one."""
    product.csm("start", "dan")


def quickly(product, *argv, within=2.5, **options):
    """A verb that waits for nothing that dan does."""
    begun = pace.clock()
    done = product.csm(*argv, **options)
    took = pace.clock() - begun
    assert took < within, (argv, took)
    return done


# How each is made at "$2", which then gets the place of what is at "$1".
KINDS = {
    "a fifo": 'mkfifo "$2"',
    "a socket": "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 1) or die' \"$2\"",
    "a character device": 'mknod -m 666 "$2" c 1 5',
    "a block device": 'mknod -m 666 "$2" b 7 0',
    "a hard link to root's": f'ln {TREASURE} "$2"',
    "a sparse file": 'truncate -s 1T "$2"',
    "a link to itself": 'ln -s "$1" "$2"',
    "a link to a device": 'ln -s /dev/zero "$2"',
    "a link into /proc": 'ln -s /proc/1/root "$2"',
}
POINTS = [".local", ".local/share", ".local/share/code-server", "project"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_directory_where_one_has_to_be(host, product, kind):
    """A17. Told by its path, not opened, not waited for, and left as it is."""
    product.csm("stop", "dan")
    for point in POINTS:
        path = f"{HOME}/{point}"
        host.sh(KINDS[kind], path, f"{path}.moved")
        if kind != "a hard link to root's":
            host.sh('chown -h csm-dan: "$1.moved"', path)
        # In one step: the daemon makes directories that are missing at any moment.
        host.sh('mv --exchange --no-target-directory "$1" "$1.moved"', path)
        look = lambda path=path: host.sh('stat -c "%F %a %U:%G %s %h %Y" "$1"', path)  # noqa: E731
        before = look()
        done = quickly(product, "start", "dan", check=1)
        found = product.workspace("dan")
        assert found["state"] == "blocked", (point, found)
        assert [one["code"] for one in found["findings"]] == ["home-obstructed"] and path in found["findings"][0]["message"], (point, found)
        assert "home-obstructed" in done.stderr and look() == before, (point, done)
        host.sh('mv --exchange --no-target-directory "$1" "$1.moved"; rm "$1.moved"', path)
        quickly(product, "stop", "dan")


def test_with_all_of_it_away_it_starts(product):
    """After the ones before."""
    product.csm("start", "dan")
    assert product.state("dan") == "ready"


# At the editor's socket, by dan, who may write there: what is asked of it, and by whom.
AT_THE_SOCKET = {
    "a fifo": "mkfifo http.sock",
    "a huge sparse file": "truncate -s 1T http.sock",
    "a directory": "mkdir http.sock; touch http.sock/x",
    "a hard link": "echo x >other; ln other http.sock",
    "nothing": "true",
}


@pytest.mark.parametrize("kind", AT_THE_SOCKET)
def test_something_else_in_the_place_of_the_editors_socket(host, product, running, kind):
    """A17. Root asks it for its health, and removes it before the next start; nginx asks it for everything else."""
    with product.visitor("dan") as dan:
        product.inside_sh("dan", f"cd /run/csm/http; rm -f http.sock; {AT_THE_SOCKET[kind]}")
        for verb in (("status",), ("plan",), ("status", "alice"), ("reload",)):
            quickly(product, *verb)
        assert dan.get("/x").status_code == 503
        product.csm("stop", "dan")
        assert product.state("dan") == "stopped"
        # Whatever it was went with the mount.
        assert host.sh('ls -A "$1"', f"{RUN}/run/dan") == ""
        product.csm("start", "dan")
        assert product.state("dan") == "ready" and dan.get("/healthz").status_code == 200
        assert host.sh('stat -c %F "$1"', f"{RUN}/run/dan/http.sock") == "socket"


def as_dan(*argv):
    """Should something of dan's ever run outside, as dan's account."""
    return ["setpriv", "--reuid", "csm-dan", "--regid", "csm-dan", "--init-groups", *argv]


def test_traps_in_the_runtime_directory(host, product, running):
    """A17, A18. systemd makes it, gives it to the account, and removes it with all that is in it."""
    traps = f"""
      cd /run/csm-dan; mkdir -p deep/er; ln -s {OUTSIDE} link; ln -s {OUTSIDE} deep/er/link; ln -s / root; mkfifo fifo; truncate -s 1T sparse
      ln -sfn {OUTSIDE}/share libpod-of-mine; mkdir locked; chmod 000 locked
    """
    host.run(*as_dan("bash", "-euc", traps))
    assert host.sh("find /run/csm-dan -type l | wc -l") != "0"
    product.csm("restart", "dan")
    assert product.state("dan") == "ready"
    assert not host.sh("ls -d /run/csm-dan/deep /run/csm-dan/locked /run/csm-dan/link 2>/dev/null || true")
    # Nothing in it is root's, so nothing in it is ever read or written as root.
    assert host.sh("find /run/csm-dan /var/lib/code-server-multi/accounts/dan -xdev -user root -not -path '*/overlay/*' | head -n 5") == ""


# Makes names where root makes its own, until it is told to end, and says which it was able to make. That one is told by a file,
# and ends with its host else.
RACER = r"""
use strict; use Fcntl; use POSIX;
my ($target, @places) = @ARGV;
my %made;
$| = 1;
print "racing\n";
while (!-e "/tmp/lab-enough") {
  for my $place (@places) {
    if (symlink($target, $place)) { $made{$place} = 1; unlink $place; }
    if (mkfifo("$place.fifo", 0600)) { $made{$place} = 1; unlink "$place.fifo"; }
    $made{"$place renamed"} = 1 if rename("/var/lib/code-server-multi/accounts/dan/lab-own", $place);
    $made{"$place opened"} = 1 if sysopen(my $file, $place, O_WRONLY | O_CREAT, 0600);
  }
}
print join(" ", sort keys %made), "\n";
"""


def test_names_are_not_won_where_root_makes_its_own(host, product, running):
    """A18. As the account and as the container's user, while everything there is made anew, again and again."""
    host.sh('echo x >/var/lib/code-server-multi/accounts/dan/lab-own; chmod 666 /var/lib/code-server-multi/accounts/dan/lab-own; rm -f /tmp/lab-enough')
    host.put("/etc/lab/secrets/raced", "a key\n", 0o600)
    product.config["workspaces"]["dan"]["secret_environment"] = {"LAB_RACED": "/etc/lab/secrets/raced"}
    places = [
        f"{RUN}/front/dan.sock", f"{RUN}/front/alice.sock", f"{RUN}/run/dan", f"{RUN}/mounts/dan/data", f"{RUN}/mounts/dan/images", f"{RUN}/mounts/dan/lab",
        f"{RUN}/secrets/dan/LAB_RACED", f"{RUN}/secrets/dan/.LAB_RACED.new", f"{RUN}/secrets/dan/lab", f"{RUN}/entrypoint", f"{RUN}/admin.sock", f"{RUN}/lab", "/run/csm-dan", "/run/csm-sam", "/run/lab-raced",
        "/var/lib/code-server-multi/podman/dan/containers.conf", "/var/lib/code-server-multi/podman/dan/.containers.conf.new", "/var/lib/code-server-multi/intent/dan.toml",
        "/var/lib/vscode/dan/lab", "/var/lib/code-server-multi/accounts/lab",
    ]  # fmt: skip
    inner = str(int(host.sh("sed -n 's/^csm-dan:\\([0-9]*\\):.*/\\1/p' /etc/subuid")) + 999)
    who = {"the account": as_dan(), "the container's user": ["setpriv", "--reuid", inner, "--regid", inner, "--clear-groups"]}
    racers = {name: host.start(*become, "perl", "-e", RACER, OUTSIDE, *places, text=True) for name, become in who.items()}
    try:
        for racer in racers.values():
            assert racer.stdout.readline() == "racing\n"
        for round in range(3):
            host.put("/etc/lab/secrets/raced", f"a key, {round}\n", 0o600)
            product.reload()
            product.csm("restart", "dan")
            host.sh('systemctl restart "$1"', "code-server-multi-gateway.service")
        assert product.inside("dan", "cat", "/run/csm/secrets/LAB_RACED").stdout == "a key, 2\n"
        assert not [name for name, racer in racers.items() if racer.poll() is not None], "they gave up"
    finally:
        host.sh("touch /tmp/lab-enough")
        won = {name: racer.communicate(timeout=60 / pace.SLOWEST)[0].strip() for name, racer in racers.items()}
        host.sh("rm -f /var/lib/code-server-multi/accounts/dan/lab-own")
        del product.config["workspaces"]["dan"]["secret_environment"]
        product.reload()
        product.csm("restart", "dan")
    assert won == dict.fromkeys(racers, "")


# Swaps the directory `.local` of the home that it stands in for a link, back and forth, and says how often.
SWAPPER = r"""
use strict;
my ($swaps, $here, $there) = (0, ".local", "lab-link");
$| = 1;
print "swapping\n";
while (!-e "/tmp/lab-enough") { $swaps++ if syscall(316, -100, $here, -100, $there, 2) == 0; }  # renameat2, RENAME_EXCHANGE
print "$swaps\n";
"""


def test_a_directory_swapped_while_root_walks(host, product):
    """A17. `.local` is one moment dan's directory, in which root has something to make, and the next a link to another place
    where dan may write, in which root would make it too."""
    product.csm("stop", "dan")
    host.sh('cd "$1"; rm -f /tmp/lab-enough; mv .local .moved; mkdir -p .local/share; ln -s "$2" lab-link; chown -hR csm-dan: .local lab-link', HOME, OUTSIDE)
    # The way to the home is root's alone, so it is already in it when it becomes dan.
    swapper = host.start("sh", "-c", f'cd {HOME}; exec "$@"', "lab", *as_dan("perl", "-e", SWAPPER), text=True)
    seen = set()
    try:
        assert swapper.stdout.readline() == "swapping\n"
        # Whichever is there at the moment when root looks: one as likely as the other, until both were.
        for round in range(60):
            if round >= 12 and "home-obstructed" in seen:
                break
            product.csm("start", "dan", check=False)
            dan = product.workspace("dan")
            seen |= {dan["state"], *(one["code"] for one in dan["findings"])}
            product.csm("stop", "dan", check=False)
            assert host.sh('ls -A "$1/share"', OUTSIDE) == ""
            # So that there is something to make again; whichever of them is the directory by now.
            host.sh('cd "$1"; rmdir lab-link/share/code-server .local/share/code-server 2>/dev/null || true', HOME)
        for _ in range(40):
            product.plan()
    finally:
        host.sh("touch /tmp/lab-enough")
        swaps = swapper.communicate(timeout=60 / pace.SLOWEST)[0].strip()
        product.csm("stop", "dan", check=False)
        host.sh('cd "$1"; rm -rf lab-link .local; mv .moved .local', HOME)
        product.csm("start", "dan")
    print(f"{swaps} swaps; what was seen: {sorted(seen)}")
    assert int(swaps) > 1000 and "home-obstructed" in seen


def test_a_home_is_counted_by_its_owner(host, product, running):
    """A17. `csm top --disk` reads all of it: as the account, so that what it can't read isn't counted, and no kind of file
    keeps it."""
    product.inside_sh("dan", "mkdir /home/coder/project/lab; cd /home/coder/project/lab; truncate -s 1T sparse; mkfifo fifo; ln -s / root; ln -s loop loop; mkdir locked; touch locked/x; chmod 000 locked; for n in {1..300}; do mkdir -p d; cd d; done")
    host.sh('ln "$1" "$2/lab/treasure"; mkdir -m 0700 "$2/lab/roots"; head -c 5M /dev/urandom >"$2/lab/roots/x"', TREASURE, "/var/lib/vscode/dan/workspace")
    try:
        used = {one["name"]: one["disk_bytes"] for one in json.loads(quickly(product, "top", "--json", "--disk", within=15).stdout)["workspaces"]}
        assert 0 < used["dan"] < 1 << 30, used
        by_root = int(host.sh("du --summarize --total --block-size=1 /var/lib/vscode/dan/* | tail -n 1 | cut -f 1"))
        assert by_root - used["dan"] > 4 << 20, (by_root, used)
        assert not host.sh("systemctl list-units --all --plain --no-legend 'csm-*--disk-*'")
        assert host.show(DAEMON, "ActiveState") == "active"
    finally:
        host.sh("chmod 700 /var/lib/vscode/dan/workspace/lab/locked; rm -rf /var/lib/vscode/dan/workspace/lab")
