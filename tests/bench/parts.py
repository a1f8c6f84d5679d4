"""What is measured without a browser or a load generator. Each part takes a Place and returns plain data."""

import math
import statistics

from lab.product import DAEMON, GATEWAY

from .place import ONE_MORE, Place, kernel

SERVICES = {"daemon": DAEMON, "gateway": GATEWAY}
# After the services' start, and after the editors'.
SETTLED = 10


# How much later `csm start` may be than the same by hand, in milliseconds.
AIMS = {"active": 12, "healthz": 20}


def start(place, options):
    """Pairs, until it is certain on which side of its aim each difference is, or there were enough of them."""
    taken = {"csm": [], "hand": []}
    while len(taken["csm"]) < options.pairs:
        batch = place.inside("start", "dan", min(10, options.pairs), 0 if taken["csm"] else 2, timeout=300)
        for kind, many in batch.items():
            taken[kind] += many
        summary = compare(taken["csm"], taken["hand"])
        sides = [verdict(summary[moment]["difference"], aim) for moment, aim in AIMS.items()]
        if len(taken["csm"]) >= 20 and None not in sides:
            break
    return {"pairs": len(taken["csm"]), "taken": taken, "summary": summary}


def verdict(value, aim):
    """Whether an aim is met; nothing when the median isn't certain enough to say."""
    if value["most"] <= aim:
        return True
    return False if value["least"] > aim else None


def compare(ours, theirs):
    """Medians and quartiles of each moment, and the same of the differences of neighbours."""
    found = {}
    for moment in ours[0]:
        pairs = [a[moment] - b[moment] for a, b in zip(ours, theirs)]
        found[moment] = {
            "csm": spread([one[moment] for one in ours]),
            "hand": spread([one[moment] for one in theirs]),
            "difference": spread(pairs),
        }
    return found


def spread(values):
    """The median, the quarter points, and between which values the median is with 95 % certainty."""
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    least, most = certain(values)
    return {"median": statistics.median(values), "low": low, "high": high, "least": least, "most": most}


def certain(values):
    """Whatever the distribution: each value is above the median or below it as a coin falls (sign test)."""
    ordered, size = sorted(values), len(values)
    below, rank = 0.0, 0
    while rank < size // 2:
        below += math.comb(size, rank) / 2**size
        if below > 0.025:
            break
        rank += 1
    # Too few for any certainty.
    return (ordered[rank - 1], ordered[size - rank]) if rank else (-math.inf, math.inf)


def services(place, options):
    found, pids = freshly_started(place)
    for what in ("idle", "calls"):
        answer = place.inside(what, options.idle, *pids.values(), timeout=options.idle + 60)
        found[what] = {name: answer[pid] for name, pid in pids.items()}
    found["memory_later"] = memory(place, pids)
    with place.product.visitor("dan") as client:
        assert client.get("/healthz").status_code == 200
    found["memory_after_sign_in"] = memory(place, pids)
    return found


def freshly_started(place):
    """Memory of both beside three running workspaces, and their processes. The gateway starts with the first request."""
    for unit in SERVICES.values():
        place.host.run("systemctl", "restart", unit)
    with place.product.client("dan") as client:
        assert client.get("/").status_code == 401
    place.product.wait_ready()
    pids = {name: place.host.show(unit, "MainPID") for name, unit in SERVICES.items()}
    place.inside("idle", SETTLED)
    return {"memory": memory(place, pids)}, pids


def memory(place, pids):
    found = place.inside("memory", *pids.values())
    return {name: found[pid] for name, pid in pids.items()}


def other_kernel(options):
    """The same memory under Debian's own kernel. Emulated, which time must not be measured in, but pages can be."""
    with Place("vm") as place:
        found, _ = freshly_started(place)
        return found | {"kernel": kernel(place)}


# What the editor is; the rest of a workspace's processes only carry it.
CARRIERS = {
    "conmon": "conmon",
    "pasta": "pasta",
    "podman-init": "container's process 1 (catatonit)",
    "catatonit": "Podman's pause process (catatonit)",
}


def plumbing(place, options):
    place.inside("idle", SETTLED)
    found = {}
    for name in place.product.people[:3]:
        for one in place.inside("processes", f"csm-{name}.service"):
            found.setdefault(carrier(one["command"]), []).append(one)
    total = len(place.product.people[:3])
    return {
        what: {
            "processes": len(many) / total,
            "rss": sum(one["rss"] for one in many) / total,
            "pss": sum(one["pss"] for one in many) / total,
        }
        for what, many in found.items()
    }


def carrier(command):
    program = command.split(" ", 1)[0].rsplit("/", 1)[-1].split(".")[0]
    return CARRIERS.get(program, "editor")


def disk(place, options):
    """Bytes on disk of one more workspace: added, running, and after its editor was opened once."""
    host, product = place.host, place.product
    product.config["workspaces"][ONE_MORE] = product.workspace_table(ONE_MORE) | {"enabled": False}
    product.reload()
    found = {"configured": sizes(place)}
    product.config["workspaces"][ONE_MORE] = product.workspace_table(ONE_MORE)
    product.reload()
    product.wait_ready(ONE_MORE)
    found["started"] = sizes(place)
    with place.product.visitor(ONE_MORE) as client:
        assert client.get("/", follow_redirects=True).status_code == 200
    found["first page"] = sizes(place)
    product.remove(ONE_MORE)
    host.wait_for("it is stopped", lambda: host.show(f"csm-{ONE_MORE}.service", "ActiveState") == "inactive")
    product.wait_settled()
    found["image"] = int(host.sh("du -sB1 /var/lib/code-server-multi/images/store | cut -f1"))
    return found


def sizes(place):
    places = {
        "container storage": f"/var/lib/code-server-multi/accounts/{ONE_MORE}",
        "Podman's configuration": f"/var/lib/code-server-multi/podman/{ONE_MORE}",
        "home, workspace and editor's data": f"/var/lib/vscode/{ONE_MORE}",
    }
    # Of what is inside the container's storage some is not root's to read through mounts, but all of it counts.
    script = 'if [ -e "$1" ]; then du -xsB1 "$1" | cut -f1; else echo 0; fi'
    return {what: int(place.host.sh(script, path)) for what, path in places.items()}
