"""What a real nginx makes of our files: as an unprivileged account, under systemd, on both families of addresses."""

import re

import pytest

from lab import pace


def CONFIGURE(product):
    product.only("dan", "sam")


def nginx(host, which):
    """Process ids of the master or of the workers, but of those that only wait for their last answers."""
    return host.sh(f"pgrep -f '^nginx: {which} process( /|$)'").split()


@pytest.fixture(scope="module")
def dan(product):
    with product.visitor("dan") as client:
        yield client


def curl(host, *argv, **options):
    return host.run("curl", "--silent", "--show-error", "--max-time", "60", "--cacert", "/etc/lab/ca.pem", *argv, **options)


@pytest.fixture(scope="module")
def authority(host, product):
    host.put("/etc/lab/ca.pem", product.pki.authority)


def test_it_runs_as_an_unprivileged_account_and_speaks_http2(host, product, authority):
    assert host.sh('stat -c %U "/proc/$1"', nginx(host, "master")[0]) == "www-data"
    done = curl(host, "--http2", "--resolve", "dan.code.example.test:443:127.0.0.1", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", "https://dan.code.example.test/")
    assert done.stdout == "2 401"


def test_workers_have_the_sockets_group_and_nothing_else_has_it(host, product):
    group = host.sh("getent group code-server-multi-web | cut -d: -f3")
    for pid in nginx(host, "worker"):
        assert group in host.sh("sed -n 's/^Groups:\\s*//p' \"/proc/$1/status\"", pid).split()
    # Not nginx's own group, and not through membership that every process of the account would have.
    assert host.sh("getent group code-server-multi-web | cut -d: -f4") == ""
    assert host.sh("stat -c %G /run/code-server-multi/run/dan/http.sock") == "code-server-multi-web"


def test_both_families_and_the_redirect(host, product, authority):
    host.sh("ip -6 addr add fd00:77::2/64 dev eth0 nodad")
    for address in ("127.0.0.1", "[::1]", "[fd00:77::2]", host.address[0]):
        resolve = ("--resolve", f"dan.code.example.test:443:{address}", "--resolve", f"dan.code.example.test:80:{address}")
        shown = curl(host, *resolve, "-o", "/dev/null", "-w", "%{http_code}", "https://dan.code.example.test/").stdout
        assert shown == "401", address
        head = curl(host, *resolve, "--head", "http://dan.code.example.test/a/path?q=1").stdout
        assert re.search(r"^location: https://dan\.code\.example\.test/a/path\?q=1\r?$", head, re.I | re.M), (address, head)
    # It never claims other sites.
    assert curl(host, "--resolve", "other.example.test:80:127.0.0.1", "-o", "/dev/null", "-w", "%{redirect_url}", "http://other.example.test/").stdout == ""


def test_starting_and_stopping_never_reload_it(host, product):
    product.wait_settled()
    before = nginx(host, "worker")
    for _ in range(3):
        product.csm("restart", "sam")
        product.csm("reload")
    product.csm("stop", "sam")
    product.csm("start", "sam")
    assert nginx(host, "worker") == before


def test_a_large_upload_leaves_nothing_on_disk(host, product, dan):
    product.inside(
        "dan",
        "tee",
        "/tmp/sink.py",
        input="import http.server\nclass S(http.server.BaseHTTPRequestHandler):\n"
        " def do_POST(self):\n  left = int(self.headers['Content-Length']); total = 0\n"
        "  while left:\n   piece = self.rfile.read(min(left, 65536)); left -= len(piece); total += len(piece)\n"
        "  body = str(total).encode(); self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers(); self.wfile.write(body)\n"
        "http.server.HTTPServer(('127.0.0.1', 3300), S).serve_forever()\n",
    )
    product.inside_sh("dan", "(setsid python3 /tmp/sink.py >/dev/null 2>&1 &)")
    origin = {"Origin": "https://dan.code.example.test"}
    host.wait_for("the sink", lambda: dan.post("/proxy/3300/", content=b"x", headers=origin).text == "1", 10)
    places = "/var/lib/nginx /var/cache/nginx /tmp"
    before = host.sh(f"find {places} -xdev -type f 2>/dev/null | sort || true")

    largest = 0

    def pieces():
        nonlocal largest
        for number in range(50):
            if number % 10 == 5:
                held = host.sh("for pid in $(pgrep -x nginx); do find /proc/$pid/fd -lname '*nginx*_temp*' 2>/dev/null; done | wc -l")
                largest = max(largest, int(held))
            yield bytes(1 << 20)

    answer = dan.post("/proxy/3300/", content=pieces(), headers={**origin, "Content-Length": str(50 << 20)}, timeout=60 / pace.SLOWEST)
    assert answer.text == str(50 << 20)
    # Neither afterwards nor, deleted but open, meanwhile.
    assert largest == 0
    assert host.sh(f"find {places} -xdev -type f 2>/dev/null | sort || true") == before


def test_it_is_killed_and_comes_back(host, product):
    pids = product.main_pids()
    host.sh("pkill -KILL -x nginx")
    # Before systemd knows, a start does nothing.
    host.wait_for("systemd knows", lambda: host.show("nginx.service", "ActiveState") != "active", 10)
    host.sh("systemctl reset-failed nginx; systemctl start nginx")
    with product.client("dan") as client:
        host.wait_for("it serves", lambda: client.get("/").status_code == 401, 20)
    host.wait_for("status has nothing to say", lambda: not product.status()["nginx"].get("finding"), 90)
    assert host.sh("curl -s --unix-socket /run/code-server-multi-nginx/probe.sock http://x/") == product.status()["nginx"]["generation"]
    assert product.main_pids() == pids


def test_it_fails_to_start_on_ours_and_gets_the_last_good_back(host, product, visit):
    """Stopped, a port that is taken configured meanwhile, started: it fails on what is ours, so that is taken back."""
    take = "import signal, socket; s = socket.create_server(('127.0.0.1', 18082)); signal.pause()"
    with host.service("taken", "python3", "-c", take):
        host.wait_for("the port is taken", lambda: "127.0.0.1:18082" in host.sh("ss -Hltn"), 10)
        host.sh("systemctl stop nginx")
        product.config["workspaces"]["sam"]["port"] = 18082
        product.reload()
        host.wait_for("it is published", lambda: "18082" in host.sh("cat /var/lib/code-server-multi/nginx/current/*.conf"), 20)
        host.run("systemctl", "start", "nginx", check=False)
        host.wait_for("the last good one is back", lambda: "18082" not in host.sh("cat /var/lib/code-server-multi/nginx/current/*.conf"), 60)
        host.sh("systemctl reset-failed nginx; systemctl start nginx")
        assert visit("dan").get("/").status_code == 401
    del product.config["workspaces"]["sam"]["port"]
    product.reload()
    host.wait_for("status has nothing to say", lambda: not product.status()["nginx"].get("finding"), 90)


def test_files_that_nginx_can_not_read_any_more_are_mended(host, product, dan):
    """An include with a wildcard that matches nothing it may read is no error to nginx: everybody would be gone."""
    host.sh("chgrp -R root /var/lib/code-server-multi/nginx/current/; chmod 0700 /var/lib/code-server-multi/nginx/current/")
    product.config["workspaces"]["sam"]["port"] = 18083
    product.reload()
    host.wait_for("sam's port", lambda: host.run("curl", "-s", "-o", "/dev/null", "http://127.0.0.1:18083/", check=False).returncode == 0, 30)
    assert dan.get("/healthz").status_code == 200
    host.sh("systemctl restart nginx")
    assert dan.get("/healthz").status_code == 200
