"""A workspace whose user wants out: what it plants has no effect outside, and harms nobody but itself."""

import pytest

from lab import pace

CODE_SERVER = "/home/coder/.local/share/code-server"

# Speaks HTTP on the editor's socket in its place, and counts who asks. The answer is what the first argument says, without an
# end, or silence.
IMPOSTOR = r"""
import os, socket, sys, threading
path = "/run/csm/http/http.sock"
answer = sys.argv[1].encode().decode("unicode_escape").encode("latin-1")
if os.path.lexists(path):
    os.unlink(path)
s = socket.socket(socket.AF_UNIX)
s.bind(path)
os.chmod(path, 0o660)
s.listen(64)
asked = 0
def serve(c):
    global asked
    c.recv(65536)
    asked += 1
    with open("/tmp/asked.new", "w") as file:
        file.write(str(asked))
    os.rename("/tmp/asked.new", "/tmp/asked")
    if answer == b"ENDLESS":
        c.sendall(b"HTTP/1.1 ")
        while True:
            c.sendall(b"2" * 65536)
    if answer:
        c.sendall(answer)
        c.close()
    else:
        threading.Event().wait()
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""


@pytest.fixture(scope="module")
def alice(product):
    with product.visitor("alice") as client:
        yield client


@pytest.fixture(scope="module")
def dan(product):
    with product.visitor("dan") as client:
        yield client


@pytest.fixture(scope="module")
def outside(host, product):
    """What root has on this host: no byte of it may change, whatever dan does."""
    places = (
        "/etc /usr/local /root /var/lib/code-server-multi/podman /var/lib/code-server-multi/passwords "
        "/var/lib/vscode/alice/home /var/lib/vscode/alice/workspace"
    )
    return lambda: host.sh(
        f"find {places} -printf '%p %U:%G %m %l\\n' | LC_ALL=C sort; "
        f"find {places} -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum"
    )


@pytest.fixture(scope="module")
def seen(product, outside):
    """As it was before the first story, and after each."""
    return {"outside": outside(), "pids": product.main_pids("alice", "sam")}


@pytest.fixture(autouse=True)
def others_are_fine(product, outside, seen, traps_are_gone):
    yield
    before = dict(seen)
    seen |= {"outside": outside(), "pids": product.main_pids("alice", "sam")}
    assert seen == before
    begun = pace.clock()
    product.status()
    assert pace.clock() - begun < 2


@pytest.fixture
def traps_are_gone(host):
    yield
    host.sh(
        'home=/var/lib/vscode/dan; cd "$home"; for trap in home/.local home/project home/.config; do if test -L "$trap"; then rm "$trap"; fi; done; '
        "rm -rf home/.moved home/.config/containers config/heartbeat config/User config/Machine"
    )


@pytest.fixture(scope="module")
def left():
    """What stories left in dan's container: it is thrown away before a story that needs a whole one."""
    return set()


@pytest.fixture
def whole(product, left):
    if left:
        product.csm("restart", "dan", check=False)
        product.wait_ready("dan")
        left.clear()


@pytest.fixture
def spoils(whole, left):
    """For what needs a whole container, and leaves none."""
    yield
    left.add("what is planted")


@pytest.fixture
def impostor(request, product, left):
    """In the place of the editor, or of the impostor that is there already."""
    if left != {"an impostor"}:
        request.getfixturevalue("whole")
    left.add("an impostor")

    def answers(answer):
        product.inside("dan", "tee", "/tmp/impostor.py", input=IMPOSTOR)
        script = 'pkill -f "^python3 /tmp/impostor.py" || true; rm -f /tmp/asked; setsid python3 /tmp/impostor.py "$1" >/dev/null 2>&1 </dev/null &'
        product.inside_sh("dan", script, answer)

    return answers


@pytest.mark.parametrize("point", [".local", ".local/share", "project"])
def test_a_link_where_a_mount_point_has_to_be(host, product, whole, point):
    """The daemon makes these directories in the home, as root: not through a link."""
    inner = {
        ".local": "mv .local .moved; ln -s /etc .local",
        # What is mounted on can't be renamed from inside, but a copy of the home by its owner could bring any of these.
        ".local/share": None,
        "project": None,
    }[point]
    if inner:
        product.inside_sh("dan", f"cd /home/coder; {inner}")
        product.csm("stop", "dan")
    else:
        product.csm("stop", "dan")
        host.sh('cd /var/lib/vscode/dan/home; rm -rf "$1"; ln -s /etc "$1"; chown -h csm-dan: "$1"', point)
    done = product.csm("start", "dan", check=1)
    assert "home-obstructed" in done.stderr + product.csm("status", "dan").stdout, done
    assert product.state("dan") == "blocked"
    assert not host.sh("ls -d /etc/share /etc/code-server 2>/dev/null || true")
    host.sh('rm "/var/lib/vscode/dan/home/$1"', point)
    # Seen again by itself, or when told to.
    product.csm("start", "dan")


def test_links_in_every_directory_inside(host, product, spoils):
    """Where the editor and the agents keep things: the host's side of the product reads none of them."""
    product.inside_sh(
        "dan",
        f"cd {CODE_SERVER}; for name in User Machine extensions logs coder.json config.yaml heartbeat; do rm -rf $name; ln -s /etc/$name $name; done; "
        "cd /home/coder; ln -sfn /etc .config-link; ln -sfn /etc/passwd project/passwd; ln -sfn /run/csm/http http",
    )
    product.csm("restart", "dan", check=False)
    host.sh(f"cd /var/lib/vscode/dan/config; find . -maxdepth 1 -type l -delete; test ! -e {CODE_SERVER}")
    assert not host.sh("ls -d /etc/User /etc/Machine /etc/logs 2>/dev/null || true")


def test_the_editors_socket_as_a_link_to_alices(host, product, spoils, alice, dan):
    marker = "here is alice"
    product.inside_sh("alice", f"mkdir -p /tmp/a; echo '{marker}' >/tmp/a/index.html; cd /tmp/a; (setsid python3 -m http.server 3100 >/dev/null 2>&1 &)")
    host.wait_for("alice's page", lambda: marker in alice.get("/proxy/3100/").text, 10)
    for target in ("/run/code-server-multi/run/alice/http.sock", "../alice/http.sock", "/run/code-server-multi/front/alice.sock", "/run/code-server-multi/admin.sock"):
        product.inside_sh("dan", 'ln -sfn "$1" /run/csm/http/http.sock', target)
        assert host.sh("readlink /run/code-server-multi/run/dan/http.sock") == target
        answer = dan.get("/proxy/3100/")
        assert answer.status_code == 503 and marker not in answer.text, (target, answer)
        # From where dan's real editor is, the same path leads to dan's own ports.
    # The mount is what keeps it away, not a missing socket: without `nosymfollow` the same link leads to alice.
    place = "/run/code-server-multi/run/dan"
    product.inside_sh("dan", "ln -sfn /run/code-server-multi/run/alice/http.sock /run/csm/http/http.sock")
    ask = ("curl", "-s", "--max-time", "30", "--unix-socket", f"{place}/http.sock", "http://x/proxy/3100/")
    assert marker not in host.run(*ask, check=False).stdout
    assert "nosymfollow" in host.sh('findmnt -n -o OPTIONS "$1"', place)
    host.sh('mount -o remount,symfollow "$1"', place)
    try:
        assert marker in host.run(*ask).stdout
    finally:
        host.sh('mount -o remount,nosymfollow "$1"', place)


def test_the_socket_directory_can_not_be_filled_beyond_its_size(host, product, spoils):
    before = int(host.sh("df --output=used -B1 /run | tail -n 1"))
    done = product.inside("dan", "sh", "-c", "head -c 100M /dev/zero >/run/csm/http/big; i=0; while [ $i -lt 1000 ] && touch /run/csm/http/$i; do i=$((i + 1)); done; echo $i", check=False)
    assert int(done.stdout.strip().splitlines()[-1]) < 100
    assert "No space left" in done.stderr
    assert int(host.sh("df --output=used -B1 /run | tail -n 1")) - before < 1_000_000


CONTAINERS_CONF = """
[engine]
hooks_dir = ["/home/coder/.config/containers/hooks", "/var/lib/vscode/dan/home/.config/containers/hooks"]
conmon_path = ["/var/lib/vscode/dan/home/.config/containers/trap"]
runtime = "trap"
[engine.runtimes]
trap = ["/var/lib/vscode/dan/home/.config/containers/trap"]
[containers]
privileged = true
"""

HOOK = """{"version": "1.0.0", "hook": {"path": "/var/lib/vscode/dan/home/.config/containers/trap"}, "when": {"always": true},
"stages": ["precreate", "prestart", "createRuntime", "poststart", "poststop"]}"""

TRAP = "#!/bin/sh\nid >/var/lib/vscode/dan/home/sprung\nid >/tmp/sprung\nexit 1\n"


def test_podman_configuration_in_the_home(host, product, whole):
    product.inside_sh("dan", "mkdir -p /home/coder/.config/containers/hooks /home/coder/.local/share/containers")
    for name, text in {
        "containers.conf": CONTAINERS_CONF,
        "storage.conf": '[storage]\ndriver = "vfs"\ngraphroot = "/home/coder/elsewhere"\n',
        "policy.json": "nonsense",
        "registries.conf": "nonsense = [",
        "mounts.conf": "/etc:/run/host-etc\n",
        "hooks/trap.json": HOOK,
        "trap": TRAP,
    }.items():
        product.inside("dan", "tee", f"/home/coder/.config/containers/{name}", input=text)
    product.inside_sh("dan", "chmod 755 /home/coder/.config/containers/trap; cp -r /home/coder/.config/containers /home/coder/containers")
    # The trap works, so it's only that nobody outside springs it.
    host.run("sh", "/var/lib/vscode/dan/home/.config/containers/trap", check=1)
    host.sh("rm /var/lib/vscode/dan/home/sprung /tmp/sprung")
    pid = product.main_pids("dan")
    product.csm("restart", "dan")
    assert product.state("dan") == "ready" and product.main_pids("dan") != pid
    product.csm("stop", "dan")
    product.csm("start", "dan")
    assert not host.sh("ls /var/lib/vscode/dan/home/sprung /tmp/sprung 2>/dev/null || true")
    assert "/run/host-etc" not in product.inside_sh("dan", "cat /proc/self/mountinfo")
    assert product.inside_sh("dan", "grep CapEff /proc/self/status").split()[1] == "0000000000000000"


@pytest.mark.parametrize("place", ["/_csm/auth", "/_csm/denied", "@csm_wake", "@ide", "@csm_signin", "/healthz", "/etc/passwd"])
def test_a_reply_that_commands_nginx(host, impostor, dan, place):
    body = f"from dan's x, not from {place}"
    impostor(
        f"HTTP/1.1 200 OK\\r\\nX-Accel-Redirect: {place}\\r\\nContent-Type: text/plain\\r\\nContent-Length: {len(body)}\\r\\nConnection: close\\r\\n\\r\\n{body}",
    )
    # Until then there is another, or nobody.
    host.wait_for("the impostor's answer", lambda: dan.get("/x").text == body, 10)
    answer = dan.get("/x")
    assert (answer.status_code, answer.text) == (200, body), answer
    assert "x-accel-redirect" not in answer.headers


def test_a_reply_that_plants_cookies_and_clears_them(host, product, visit, whole, impostor):
    dan = visit("dan")
    assert product.sign_in(dan).status_code == 303
    nginxs = dan.get("/healthz").headers["strict-transport-security"]
    impostor(
        "HTTP/1.1 200 OK\\r\\nSet-Cookie: __Host-csm=stolen; Path=/; Secure\\r\\nClear-Site-Data: \\\"*\\\"\\r\\n"
        "Strict-Transport-Security: max-age=0\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok",
    )
    host.wait_for("the impostor's answer", lambda: dan.get("/x").text == "ok", 10)
    answer = dan.get("/x")
    assert "clear-site-data" not in answer.headers
    # One value, which is nginx's: a browser takes the first of several.
    assert answer.headers.get_list("strict-transport-security") == [nginxs], answer.headers
    # A browser takes a __Host- cookie only with Secure.
    for cookie in answer.headers.get_list("set-cookie"):
        assert not (cookie.startswith("__Host-csm=stolen") and "secure" in cookie.lower()), cookie


def test_the_session_cookie_never_arrives_inside(host, product, whole, dan):
    product.inside(
        "dan", "tee", "/tmp/echo.py",
        input="import http.server\nclass E(http.server.BaseHTTPRequestHandler):\n def do_GET(self):\n  b = str(self.headers).encode()\n  self.send_response(200); self.send_header('Content-Length', str(len(b))); self.end_headers(); self.wfile.write(b)\nhttp.server.HTTPServer(('127.0.0.1', 3200), E).serve_forever()\n",
    )
    product.inside_sh("dan", "(setsid python3 /tmp/echo.py >/dev/null 2>&1 &)")
    dan.cookies.set("mine", "kept", domain="dan.code.example.test", path="/proxy/3200/")
    spoofed = {
        "X-Forwarded-User": "root", "X-Forwarded-Host": "evil.test", "Forwarded": "host=evil.test", "X-Real-IP": "1.2.3.4",
        "X-Forwarded-For": "1.2.3.4", "X-Csm-Workspace": "alice", "Remote-User": "root",
    }
    host.wait_for("the echo", lambda: dan.get("/proxy/3200/").status_code == 200, 10)
    seen = dan.get("/proxy/3200/", headers=spoofed).text.lower()
    assert "mine=kept" in seen
    for never in ("__host-csm", "evil.test", "1.2.3.4", "x-forwarded-user", "remote-user", "x-csm-workspace", "root"):
        assert never not in seen, seen


NONSENSE = {
    "silence": "",
    "half": "HTTP/1.1 200 OK\\r\\n",
    "zeros": "\\x00" * 4000,
    "500": "HTTP/1.1 500 no\\r\\n\\r\\n",
    "endless": "ENDLESS",
}


@pytest.mark.parametrize("answer", NONSENSE)
def test_an_editor_that_answers_nonsense(host, product, spoils, impostor, alice, answer):
    """The daemon asks it for its health: at most a second and a kilobyte, and nobody else waits for it."""
    impostor(NONSENSE[answer])
    asked = lambda: int(product.inside_sh("dan", "cat /tmp/asked 2>/dev/null || echo 0"))  # noqa: E731
    # Whoever looks at dan's workspace asks the impostor by now.
    host.wait_for("the daemon asks the impostor", lambda: product.plan() and asked(), 20)
    before = asked()
    for verb in (("status", "alice"), ("status",), ("plan",)):
        begun = pace.clock()
        product.csm(*verb)
        assert pace.clock() - begun < 2.5, verb
    begun = pace.clock()
    assert alice.get("/healthz").status_code == 200
    assert pace.clock() - begun < 2
    assert asked() > before, "it was not asked"
    product.csm("stop", "dan")
    assert product.state("dan") == "stopped"


def test_a_heartbeat_that_is_a_fifo(host, product, spoils):
    product.inside_sh("dan", f"cd {CODE_SERVER}; rm -f heartbeat; mkfifo heartbeat; rm -rf User; mkfifo User")
    begun = pace.clock()
    for verb in (("status",), ("plan",), ("reload",)):
        product.csm(*verb)
    assert pace.clock() - begun < 3
    product.csm("stop", "dan")
    assert product.state("dan") == "stopped"


def test_nothing_in_the_container_gains_rights(product, whole):
    status = product.inside_sh("dan", "cat /proc/1/status /proc/self/status")
    assert "NoNewPrivs:\t1" in status
    assert {line.split()[1] for line in status.splitlines() if line.startswith("CapBnd")} == {"0000000000000000"}
    assert product.inside("dan", "unshare", "--user", "--map-root-user", "mount", "-t", "tmpfs", "x", "/mnt", check=False).returncode != 0
    for device in ("/dev/kvm", "/dev/mem", "/dev/fuse", "/dev/vda"):
        assert product.inside("dan", "test", "-e", device, check=False).returncode != 0, device
