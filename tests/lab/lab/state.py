"""What a version of the product leaves on disk, kept in tests/data/state so that later versions can be started on it.

    python -m lab.state      from tests/lab, in the environment that tests/lab/prepare prints: makes it anew with this version
"""

import json
import re
import subprocess
import tempfile
import time
from pathlib import Path

from . import env
from .host import Host
from .pki import Pki
from .product import Product

KEPT = env.CHECKOUT / "tests" / "data" / "state"
STATE = "/var/lib/code-server-multi"
GATEWAY_STATE = "/var/lib/code-server-multi-gateway"
# Its name in the version that the state is kept of.
COOKIE = "__Host-csm"


def earlier():
    """What was true when the state was made: commit, passwords, cookies."""
    return json.loads((KEPT / "state.json").read_text())


def put(host):
    """Lays the state out as it was, before the product is installed. Sessions are as old as they were then."""
    facts = earlier()
    host.put_tree(KEPT / "intent", f"{STATE}/intent")
    host.put_tree(KEPT / "nginx", f"{STATE}/nginx")
    for file in (KEPT / "passwords").iterdir():
        host.put(f"{STATE}/passwords/{file.name}", file, 0o600)
    for link, target in facts["links"].items():
        host.sh('ln -s "$1" "$2"', target, f"{STATE}/nginx/{link}")
    later = int(time.time()) - facts["made"]
    sessions = (KEPT / "gateway" / "sessions.json").read_text()
    moved = re.sub(r'"(created|last_used|at)":\s*(\d+)', lambda found: f'"{found[1]}":{int(found[2]) + later}', sessions)
    # systemd hands the directory to the gateway's account.
    host.put(f"{GATEWAY_STATE}/sessions.json", moved, 0o600)
    host.sh('chmod 0711 "$1"; chmod 0700 "$1/intent" "$1/passwords" "$2"; chmod 0600 "$1"/intent/*', STATE, GATEWAY_STATE)


def _make(host, pki):
    product = Product(host, pki)
    del product.config["workspaces"]["dan"]["password_file"]
    product.install()
    product.wait_ready()
    product.passwords["dan"] = product.csm("password", "dan", "--generate").stdout.strip()
    product.csm("stop", "sam")
    cookies = {}
    for name in ("dan", "alice"):
        client = product.client(name)
        host.wait_for(f"{name} is let in", lambda client=client: product.sign_in(client).status_code == 303)
        cookies[name] = client.session()[1]
        client.close()
    product.wait_settled()
    for directory in (f"{STATE}/intent", f"{STATE}/passwords", f"{STATE}/nginx/generations"):
        for path in host.sh('find "$1" -type f', directory).splitlines():
            place = KEPT / Path(path).relative_to(STATE)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(host.get(path))
    (KEPT / "gateway").mkdir(exist_ok=True)
    (KEPT / "gateway" / "sessions.json").write_bytes(host.get(f"{GATEWAY_STATE}/sessions.json"))
    sources = ["git", "log", "-1", "--format=%H", "--", "src", "Cargo.lock"]
    head = subprocess.run(sources, cwd=env.CHECKOUT, capture_output=True, text=True, check=True)
    facts = {
        "commit": head.stdout.strip(),
        "made": int(time.time()),
        "links": {link: host.sh('readlink "$1"', f"{STATE}/nginx/{link}") for link in ("current", "good")},
        "passwords": {name: product.passwords[name] for name in cookies},
        "cookies": cookies,
    }
    (KEPT / "state.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as room, Host("state", store=env.product("STORE")) as host:
        _make(host, Pki(Path(room)))
