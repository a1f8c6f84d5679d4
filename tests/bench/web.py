"""nginx through the product's configuration against a minimal one by hand, to the same socket behind."""

import re
import shutil
import statistics
import subprocess

from lab.product import GATEWAY

from .parts import spread

RENDERED = "/var/lib/code-server-multi/nginx/current/dan.conf"
FRONT = "/run/code-server-multi/front/dan.sock"
STAND_IN = "/run/bench/editor.sock"
CONNECTIONS = (1, 16, 64)
BODY = 1024

# An editor that costs nothing: what is measured is what is in front of it.
STAND_IN_CONF = f"""
daemon off;
pid /run/bench/nginx.pid;
error_log stderr;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    server {{
        listen unix:{STAND_IN};
        default_type text/plain;
        location / {{ return 200 "{"x" * BODY}"; }}
    }}
}}
"""

MINIMAL = """
server {
    listen PORT ssl;
    http2 on;
    server_name NAME;
    ssl_certificate /etc/lab/certificate.pem;
    ssl_certificate_key /etc/lab/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    access_log off;
    location / {
        proxy_pass http://unix:SOCKET;
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $csm_connection;
    }
}
"""

# name: (port, socket behind)
VHOSTS = {
    "minimal": (4441, STAND_IN),
    "ours without the auth step": (4442, STAND_IN),
    "ours": (4443, STAND_IN),
    "minimal, the real editor": (4444, FRONT),
    "ours, the real editor": (4445, FRONT),
}


def web(place, options):
    host, product = place.host, place.product
    name = f"dan.{product.domain}"
    rendered = host.get(RENDERED).decode()
    host.put("/etc/bench/nginx.conf", STAND_IN_CONF)
    texts = [vhost(what, rendered, name) for what in VHOSTS]
    # The map that sets $csm_connection is in the product's base file.
    host.put("/etc/nginx/conf.d/zz-bench.conf", "\n".join(texts))
    with product.visitor("dan") as client:
        cookie = client.cookie_header()
    behind = ("--property=RuntimeDirectory=bench", "--property=Group=www-data", "nginx", "-c", "/etc/bench/nginx.conf")
    with host.service("bench-editor", *behind):
        host.wait_for("the stand-in's socket", lambda: host.run("test", "-S", STAND_IN).returncode == 0)
        host.run("systemctl", "reload", "nginx")
        ask = lambda what: host.sh(
            'curl -sk -o /dev/null -w "%{http_code}" -H "Host: $1" -H "Cookie: $2" "https://127.0.0.1:$3/healthz"',
            name, cookie, VHOSTS[what][0],
        )
        for what in VHOSTS:
            host.wait_for(f"{what} answers 200", lambda what=what: ask(what) == "200")
        refused = host.sh(
            'curl -sk -o /dev/null -w "%{http_code}" -H "Host: $1" "https://127.0.0.1:$2/healthz"', name, VHOSTS["ours"][0]
        )
        assert refused == "401", refused
        found = measure(place, options, name, cookie)
    host.run("rm", "/etc/nginx/conf.d/zz-bench.conf")
    host.run("systemctl", "reload", "nginx")
    return found


def vhost(what, rendered, name):
    port, behind = VHOSTS[what]
    if what.startswith("minimal"):
        text = MINIMAL.replace("NAME", name).replace("PORT", str(port)).replace("SOCKET", behind)
        return text
    # The daemon's own file, on another port and with another socket behind it.
    text, listens = re.subn(r"^\s*listen [^;]*;\n", "", rendered, flags=re.M)
    text, servers = re.subn(r"^server \{\n", f"server {{\n    listen {port} ssl;\n", text, flags=re.M)
    # wrk knows no HTTP/2, which browsers use, and over which a connection goes on after an answer of a workspace.
    text, closed = re.subn(r"^\s*keepalive_timeout 0;\n", "", text, flags=re.M)
    assert listens and servers == 1 and closed == 2 and FRONT in text, "the rendered file is not what it was"
    text = text.replace(FRONT, behind)
    if "without" in what:
        text, steps = re.subn(r"^    auth_request /_csm/auth;$", "    auth_request off;", text, flags=re.M)
        assert steps == 1, "the rendered file has no auth step"
    return text


def measure(place, options, name, cookie):
    gateway = place.host.show(GATEWAY, "MainPID")
    taken = {}
    for connections in CONNECTIONS:
        whats = [what for what in VHOSTS if "real" not in what or connections == 16]
        for number in range(options.web + 1):
            for what in whats if number % 2 else reversed(whats):
                before = place.inside("work", gateway)[gateway]["nanoseconds"]
                one = wrk(place, VHOSTS[what][0], connections, name, cookie, options.seconds)
                spent = place.inside("work", gateway)[gateway]["nanoseconds"] - before
                one["gateway_us"] = spent / 1000 / one["requests"]
                if number:
                    taken.setdefault((what, connections), []).append(one)
    return {
        "rounds": options.web,
        "seconds": options.seconds,
        "body": BODY,
        "rows": [
            {
                "vhost": what,
                "connections": connections,
                "rate": spread([one["rate"] for one in many]),
                "p50_ms": statistics.median(one["p50"] for one in many),
                "p99_ms": statistics.median(one["p99"] for one in many),
                "gateway_us": statistics.median(one["gateway_us"] for one in many),
            }
            for (what, connections), many in taken.items()
        ],
    }


def wrk(place, port, connections, name, cookie, seconds):
    argv = [shutil.which("wrk"), "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s", "--latency"]
    argv += ["--header", f"Host: {name}", "--header", f"Cookie: {cookie}", f"https://{place.host.address[0]}:{port}/healthz"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in said and "Socket errors" not in said, said
    latency = lambda part: milliseconds(re.search(rf"^\s+{part}%\s+(\S+)$", said, re.M)[1])
    return {
        "rate": float(re.search(r"^Requests/sec:\s+(\S+)", said, re.M)[1]),
        "requests": int(re.search(r"(\d+) requests in", said)[1]),
        "p50": latency(50),
        "p99": latency(99),
    }


def milliseconds(text):
    number, unit = re.fullmatch(r"([0-9.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
