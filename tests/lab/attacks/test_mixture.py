"""One stranger with many connections, and any mixture of what strangers do on them: those who are signed in go on, whoever is new
gets in, nothing is written to the disk, and memory has its bounds. Row A23.

A sample, drawn by the run's seed, unless it is tests/long that plays it: then all of it, for three minutes."""

import json
import re
import resource
import subprocess
import sys
import time

import pytest

from lab import dice, env, latency, pace, raw

# The machine is filled, and latencies are measured.
ALONE = True

DAN = "dan.code.example.test"
# Connections, seconds.
SAMPLE, WHOLE = (256, 20), (2000, 180)
# What somebody waits at most for an answer, handshake included: of 100 all but one.
PROMPT = 1.0
# Of nginx for each connection: TLS, and 128 requests that it refuses (10 KiB each, as measured). Of the gateway in all.
NGINX_KIB, GATEWAY_MIB = 1600, 64

HELD = r"""
for pid in $(pgrep -x nginx); do
  find "/proc/$pid/fd" -lname '/var/lib/nginx/*' 2>/dev/null || true
done
"""
MEMORY = r"""
for pid in $(pgrep -x nginx); do sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$pid/status"; done
"""


# Somebody who is signed in, at another address than the strangers: seconds of each answer, handshake included.
SOMEBODY = r"""
import json, os, socket, ssl, sys, time
name, request = sys.argv[1], sys.argv[2].encode().decode("unicode_escape").encode()
context = ssl.create_default_context(cafile="/etc/lab/authority.pem")
took = []
while not os.path.exists("/tmp/lab-enough"):
    begun = time.perf_counter()
    with context.wrap_socket(socket.create_connection(("127.0.0.1", 443), 60), server_hostname=name) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    took.append(time.perf_counter() - begun)
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    time.sleep(0.02)
print(json.dumps(took))
"""


def nginx_kib(host):
    return sum(map(int, host.sh(MEMORY).split()))


def gateway_mib(host, key):
    pid = host.show("code-server-multi-gateway.service", "MainPID")
    return int(re.search(rf"^{key}:\s+(\d+) kB", host.get(f"/proc/{pid}/status").decode(), re.M)[1]) / 1024


@pytest.mark.parametrize("how_many", [pytest.param(SAMPLE, id="a sample"), pytest.param(WHOLE, id="whole", marks=pytest.mark.long)])
def test_any_mixture_of_tricks(host, product, pki, how_many):
    """A23. What somebody waits is divided by how much slower this machine was meanwhile than one of the product's own."""
    connections, seconds = how_many
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(least, min(most, 2 * connections + 1024)), most))
    host.put("/etc/lab/authority.pem", pki.authority)
    with product.visitor("dan") as client, product.session(client) as window:
        request = raw.request(path="/healthz", Cookie=client.cookie_header()).decode()
        page = raw.request(path="/_csm/sign-in", Sec_Fetch_Mode="navigate")
        before, held, fattest = nginx_kib(host), [], 0
        argument = json.dumps([*host.address, str(pki.authority), dice.SEED, connections, seconds])
        command = ["nice", "-n", "5", sys.executable, "-m", "lab.tricks", argument]
        somebody = host.start("python3", "-c", SOMEBODY, DAN, request, text=True)
        begun, by_pace = time.monotonic(), pace.clock()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=env.LAB) as strangers:
            while strangers.poll() is None:
                held += host.sh(HELD).splitlines()
                fattest = max(fattest, nginx_kib(host))
                assert window.is_alive()
            played = json.loads(strangers.stdout.read())
        slower = (time.monotonic() - begun) / (pace.clock() - by_pace)
        host.run("touch", "/tmp/lab-enough")
        said = somebody.communicate(timeout=60 / pace.SLOWEST)[0]
        assert strangers.returncode == 0 and somebody.returncode == 0, said
        late = latency.percentile(json.loads(said), 99)
        print({"seed": dice.SEED, "played": played, "answers": said.count(","), "99th percentile, s": round(late, 3),
               "machine slower": round(slower, 1), "nginx MiB": (before // 1024, fattest // 1024)})  # fmt: skip
        assert held == []
        assert late / slower < PROMPT
        assert fattest - before < connections * NGINX_KIB
        assert gateway_mib(host, "VmHWM") < GATEWAY_MIB
        # Who is new gets in as soon as it is over, from the same address too.
        host.wait_for("the page", lambda: raw.ask(host, pki, page) == [200], 5)
        assert client.get("/healthz").status_code == 200 and window.is_alive()
