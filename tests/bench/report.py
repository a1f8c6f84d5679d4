"""Results as the Markdown that docs/benchmarks.md holds, and its pictures. Says what misses its aim."""

from . import report_scale
from .parts import AIMS, verdict
from .text import KEEP, kb, mb, quarters, table

INTRO = """# Benchmarks

Written by `tests/bench/run`; no number here was typed. Everything ran on one build machine, in a host made of namespaces
(Debian 13's systemd, Podman and nginx at native speed on the machine's own kernel), with the release binary, the real
image and three workspaces. Memory is RSS where an aim is one; RSS counts a page that two processes share in both, PSS
counts it once in all. Times are medians; in brackets the quarter points.
"""


def files(results):
    """What there is to write below docs, by name."""
    found = {name: part["found"] for name, part in results["parts"].items()}
    sections = [INTRO, provenance(results), verdicts(found)]
    for name, write in SECTIONS.items():
        if name in found:
            sections.append(write(found[name]))
    pictures = report_scale.pictures(found["cold"]) if "cold" in found else {}
    return {"benchmarks.md": "\n".join(sections)} | pictures


def provenance(results):
    machine = results["machine"]
    rows = [
        ("machine", f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}"),
        *results["versions"].items(),
    ]
    lines = [f"| {what} | {value} |" for what, value in rows]
    parts = [(name, one["at"], one["commit"], f"{one['load']:.1f}", f"{one['took']:.0f} s") for name, one in results["parts"].items()]
    return (
        "\n".join(["| | |", "|---|---|", *lines])
        + "\n\nThe load is that of the last minute before each part: this command's own work, and whatever else the machine did.\n\n"
        + table(("part", "when", "commit", "load", "took"), *parts)
    )


def verdicts(results):
    rows = []
    if start := results.get("start"):
        for moment, what in (("active", "the container is up"), ("healthz", "/healthz answers 200")):
            value, aim = start["summary"][moment]["difference"], AIMS[moment]
            met = verdict(value, aim)
            shown = f"{value['median']:+.1f} ms, certainly {value['least']:+.1f} to {value['most']:+.1f}"
            rows.append(
                (f"`csm start` beside `podman run` by hand, until {what}", f"+{aim} ms", shown)
                + ("not shown, too much noise" if met is None else met,)
            )
    rows += report_scale.verdicts(results)
    if services := results.get("services"):
        rows += memory(services, "daemon and gateway")
        share = sum(one["cpu_ms"] / one["seconds"] / 10 for one in services["idle"].values())
        rows.append(("daemon and gateway, CPU when nothing happens", "0.01 % of a core", f"{share:.4f} %", share <= 0.01))
    if found := results.get("kernel"):
        rows += memory(found, f"the same under Debian's own kernel, {found['kernel']}")
    if found := results.get("disk"):
        size = sum(found["started"].values()) / 1e6
        rows.append(("disk of one more workspace before first use", "1 MB", f"{size:.2f} MB", size < 1))
    word = {True: "yes", False: "**no**", KEEP: "-"}
    return "\n" + table(("what", "aim", "measured", "met"), *((what, aim, value, word.get(met, met)) for what, aim, value, met in rows))


def memory(found, what):
    total = {key: sum(one[key] for one in found["memory"].values()) for key in ("rss", "pss")}
    yield f"{what}: RSS added up", "9 MB", f"{mb(total['rss'])} MB", total["rss"] * 1024 <= 9e6
    yield f"{what}: PSS", "-", f"{mb(total['pss'])} MB", KEEP


def start(found):
    def line(what, moment):
        one = found["summary"][moment]
        certainly = f"{one['difference']['least']:+.1f} to {one['difference']['most']:+.1f}"
        return (what, *(quarters(one[kind], 1) for kind in ("csm", "hand")), quarters(one["difference"], 1, "+"), certainly)

    return (
        "\n## Starting a workspace\n\n"
        f"`csm start dan` against `systemd-run` with the properties and the `podman run` of dan's own unit, typed out; the\n"
        f"mounts are there for both. Alternately, {found['pairs']} times each after 2 that don't count; milliseconds from the\n"
        "start of the command. systemd's own stamps say when the unit begins and when it is active; the editor's socket is\n"
        "asked every millisecond. A single start varies by much more than the differences looked for, which is why there are many\n"
        "pairs: the last column is where the median of the differences is with 95 % certainty, whatever their distribution (sign test).\n\n"
        + table(
            ("until", "`csm start`", "by hand", "difference of neighbours", "its median is certainly within"),
            line("systemd begins with the unit", "begun"),
            line("the container is up (unit active)", "active"),
            line("/healthz answers 200", "healthz"),
            line("the command returns", "returned"),
        )
        + "\n`csm start` returns when the editor answers and nginx can reach it, `systemd-run` when the container is up.\n"
    )


def services(found):
    rows = []
    for name, one in found["memory"].items():
        later, after = found["memory_later"][name], found["memory_after_sign_in"][name]
        rows.append((name, mb(one["rss"]), mb(one["pss"]), mb(one["anonymous"]), mb(later["rss"]), mb(after["rss"])))
    total = lambda when, key: mb(sum(one[key] for one in found[when].values()))
    rows.append(
        ("together", total("memory", "rss"), total("memory", "pss"), total("memory", "anonymous"))
        + (total("memory_later", "rss"), total("memory_after_sign_in", "rss"))
    )
    idle = []
    for name, one in found["idle"].items():
        calls = found["calls"][name]
        most = ", ".join(f"{what} {number}" for what, number in sorted(calls.items(), key=lambda one: -one[1])[:4])
        idle.append(
            (name, f"{one['cpu_ms']:.2f} ms", f"{one['cpu_ms'] / one['seconds'] / 10:.4f} %", one["cpu_ticks"])
            + (one["wakeups"], one["threads"], f"{sum(calls.values())} ({most})")
        )
    seconds = next(iter(found["idle"].values()))["seconds"]
    return (
        "\n## Daemon and gateway\n\n"
        "Both freshly started beside three running workspaces, then left alone. MB.\n\n"
        + table(("", "RSS after 10 s", "PSS", "of it anonymous", "RSS later", "RSS after a sign-in"), *rows)
        + "\nWhat is not anonymous is the binary's own code and libc: the same pages for both services, mapped from the page cache,\n"
        "which the kernel drops when it needs room. How much of it counts as resident is the kernel's choice: around each page\n"
        "touched, older ones map 64 KB and newer ones whole large folios, which is nearly all of the code.\n"
        f"\nWhat they do in {seconds:.0f} s in which nothing happens (CPU by the scheduler's count; ticks are the kernel's 10 ms;\n"
        "wake-ups are voluntary context switches; system calls are counted by strace in another such time):\n\n"
        + table(("", "CPU", "of a core", "ticks (utime + stime)", "wake-ups", "threads", "system calls"), *idle)
    )


def plumbing(found):
    rest = {what: one for what, one in found.items() if what != "editor"}
    rows = [(what, f"{one['processes']:.0f}", mb(one["rss"]), mb(one["pss"])) for what, one in rest.items()]
    rows.append(("together", "", mb(sum(one["rss"] for one in rest.values())), mb(sum(one["pss"] for one in rest.values()))))
    if editor := found.get("editor"):
        rows.append(("the editor itself, nobody there", f"{editor['processes']:.0f}", mb(editor["rss"]), mb(editor["pss"])))
    return (
        "\n## What carries a workspace\n\nEverything in a workspace's unit that isn't its editor; mean of three workspaces, MB.\n\n"
        + table(("", "processes", "RSS", "PSS"), *rows)
    )


def editor(found):
    rows = []
    for name, one in found["variants"].items():
        each = ", ".join(mb(value, 0) for value in one["each"])
        parts = sorted(one["parts"].items(), key=lambda part: -part[1])
        rows.append((name, mb(one["total"], 0), each, ", ".join(f"{what} {mb(size, 0)}" for what, size in parts)))
    saved = [(what, f"{mb(size, 0)} MB") for what, size in found["saved"].items()]
    return (
        "\n## One workspace with one open tab\n\n"
        "PSS of all processes in the container in MB, 40 s after the page, in Chromium, the workspace restarted each time;\n"
        f"median of {found['rounds']}. The home had been used before. The host has no way\n"
        "out to the internet, so npm, which the typings download starts, is still trying when it is measured.\n\n"
        + table(("", "total", "each", "of which"), *rows)
        + "\nWhat a switched-off feature saves:\n\n"
        + table(("", "saved"), *saved)
    )


def disk(found):
    stages = ("configured", "started", "first page")
    rows = [(what, *(kb(found[stage][what]) for stage in stages)) for what in found["configured"]]
    rows.append(("together", *(kb(sum(found[stage].values())) for stage in stages)))
    return (
        "\n## Disk of one more user\n\nKB on disk of a workspace that is added to three running ones.\n\n"
        + table(("", "configured, never started", "started, never opened", "first page fetched"), *rows)
        + f"\nThe image is there once for all: {found['image'] / 1e6:.0f} MB.\n"
    )


def web(found):
    rows = []
    minimal = {
        (row["connections"], "real" in row["vhost"]): row for row in found["rows"] if row["vhost"].startswith("minimal")
    }
    for row in found["rows"]:
        base = minimal[row["connections"], "real" in row["vhost"]]
        change = (row["rate"]["median"] / base["rate"]["median"] - 1) * 100
        rows.append(
            (row["vhost"], row["connections"], quarters(row["rate"], 0), "" if base is row else f"{change:+.1f} %")
            + (f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}", f"{row['gateway_us']:.0f}" if row["vhost"].startswith("ours") and "without" not in row["vhost"] else "")
        )
    price = []
    for connections in sorted({row["connections"] for row in found["rows"]}):
        rate = {row["vhost"]: row["rate"]["median"] for row in found["rows"] if row["connections"] == connections}
        with_step, without = rate["ours"], rate["ours without the auth step"]
        price.append((connections, f"{(with_step / without - 1) * 100:+.1f} %", f"{1e6 / with_step - 1e6 / without:.0f} us"))
    return (
        "\n## nginx\n\n"
        "The daemon's own file for dan against a minimal one by hand (TLS, HTTP/2, websocket headers, nothing else; nginx's own\n"
        f"buffering), both in the same nginx, wrk over HTTPS (HTTP/1.1) with one thread, {found['seconds']} s a run, medians of {found['rounds']}, in turns.\n"
        f"Behind both is a stand-in on a unix socket that answers {found['body']} bytes at once, because the real editor would be what is\n"
        "measured; two rows show it. Load generator, nginx, gateway and stand-in share the machine's cores. No access logs.\n"
        "Connections go on after an answer, as they do over HTTP/2; over HTTP/1.1 the daemon's file ends them (docs/nginx.md).\n\n"
        + table(("vhost", "connections", "requests/s", "to minimal", "p50 ms", "p99 ms", "gateway's CPU, us a request"), *rows)
        + "\nThe price of `auth_request`, which asks the gateway about every single request (ours with it against ours without):\n\n"
        + table(("connections", "requests/s", "more time a request, all cores together"), *price)
    )


SECTIONS = {"start": start, "cold": report_scale.cold, "crowd": report_scale.crowd, "fake": report_scale.fake, "services": services, "plumbing": plumbing, "editor": editor, "disk": disk, "web": web}

