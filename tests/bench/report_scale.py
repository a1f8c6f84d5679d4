"""The sections about many workspaces and about a cold start."""

from . import chart
from .cold import STRETCHES
from .crowd import ONE_MORE_AT, STOPPED
from .text import mb, quarters, table

PICTURE = "images/cold-start.svg"
MOST = "1000"


def verdicts(results):
    if found := results.get("crowd"):
        known = found["known"]
        daemon = known[MOST]["memory"]["daemon"]["rss"]
        yield "daemon with 1,000 known workspaces: RSS", "12 MB", f"{mb(daemon)} MB", daemon * 1024 <= 12e6
        yield from aim("daemon's start with 1,000 known, exec to READY", known[MOST]["starts"]["ready_ms"], 50)
        calls = {number: calls_of(one["bus"]["whole look"]) for number, one in known.items()}
        shown = ", ".join(f"{number} at {int(n):,}" for n, number in calls.items())
        yield "D-Bus calls of a whole look", "the same at any number", shown, len(set(calls.values())) == 1
        yield from aim("`csm status` with 1,000 known", known[MOST]["trips"]["csm status"], 5)
        yield from aim(f"one user more at {ONE_MORE_AT}, until nginx answers for it", known[str(ONE_MORE_AT)]["one more"], 60)
    if found := results.get("fake"):
        most = found[-1]
        yield from aim(f"plan and no-op reconcile of {most['known']:,}, the controller alone", most["resync_ms"], 15)


def aim(what, value, most):
    yield what, f"{most} ms", f"{quarters(value, 1)} ms", value["median"] <= most


def calls_of(counted):
    return sum(counted.values())


def crowd(found):
    known = found["known"]
    line = lambda what, of: (what, *(of(one) for one in known.values()))
    starts = lambda key: lambda one: quarters(one["starts"][key], 0)
    memory = lambda name, key: lambda one: mb(one["memory"][name][key])
    calls = lambda when: lambda one: f"{calls_of(one['bus'][when])} ({', '.join(f'{what} {n}' for what, n in sorted(one['bus'][when].items(), key=lambda pair: -pair[1])[:3])})"
    trips = lambda what: lambda one: quarters(one["trips"][what], 1)
    head = ("", *(f"{int(number):,} known" for number in known))
    nginx = {number: one["nginx"] for number, one in known.items() if "nginx" in one}
    more = known[str(ONE_MORE_AT)]["one more"]
    return (
        "\n## Many workspaces\n\n"
        f"Three run; {STOPPED} at most are stopped, as by `csm stop`, the rest is disabled. Each has an account, subordinate ids, a\n"
        f"password and a file for nginx; the stopped ones have directories and mounts as well. {found['rounds']} rounds.\n\n"
        + table(
            head,
            line("systemd sets up the daemon's sandbox, ms", starts("sandbox_ms")),
            line("daemon: exec to READY, ms", starts("ready_ms")),
            line("exec until it has looked at everybody, ms", starts("looked_ms")),
            line("its CPU until then, ms", starts("cpu_ms")),
            line("RSS 10 s later, MB", memory("daemon", "rss")),
            line("PSS", memory("daemon", "pss")),
            line("of it anonymous", memory("daemon", "anonymous")),
            line("gateway: RSS, MB", memory("gateway", "rss")),
            line("`csm status`, ms", trips("csm status")),
            line("`csm status --json`, ms", trips("csm status --json")),
            line("`csm status dan`, ms", trips("csm status dan")),
            line("`csm plan` (looks at everything), ms", trips("csm plan")),
            line("`csm --version`: what any command costs, ms", trips("csm --version")),
        )
        + "\nD-Bus calls of the daemon to systemd, counted by `busctl monitor`. A listing of units is shared by all who look at the\n"
        "same moment; `GetAll` is asked for each of the three that run, whose limits no listing tells.\n\n"
        + table(
            head,
            line("a whole look (`csm plan`)", calls("whole look")),
            line("the daemon's start: three whole looks", calls("start")),
            line("something happened to one unit", calls("one event")),
            line("the daemon's CPU for that, ms", lambda one: f"{one['bus']['event_cpu_ms']:.1f}"),
        )
        + "\nnginx with a file for each workspace; memory of all its processes together, after the reloads.\n\n"
        + table(
            ("", *(f"{int(number):,} files" for number in nginx)),
            ("`nginx -t`, ms", *(quarters(one["test_ms"], 0) for one in nginx.values())),
            ("`systemctl reload nginx`, ms", *(quarters(one["reload_ms"], 0) for one in nginx.values())),
            ("RSS added up, MB", *(mb(one["memory"]["rss"]) for one in nginx.values())),
            ("PSS", *(mb(one["memory"]["pss"]) for one in nginx.values())),
        )
        + f"\nOne user more at {ONE_MORE_AT}, from the changed file and `csm reload` until nginx answers for the new name:\n"
        f"{quarters(more, 0)} ms. nginx reads all files twice for a reload, once to test them and once to use them.\n"
    )


def fake(found):
    rows = [
        (f"{one['known']:,}", quarters(one["resync_ms"], 2), one["resync_looks"], quarters(one["event_ms"], 3), one["event_looks"])
        + (quarters(one["plan_ms"], 2), mb(one["anonymous_kb"]))
        for one in found
    ]
    return (
        "\n## The controller alone\n\n"
        "The real controller and its workers on the made-up machine of the tests, whose clock stands still: what deciding costs,\n"
        "without systemd and the file system. One workspace in ten runs. Memory is what starting all of that added.\n\n"
        + table(
            ("known", "look at all, nothing to do, ms", "looks", "an event, ms", "looks", "`csm plan`, ms", "anonymous memory, MB"), *rows
        )
    )


def cold(found):
    kinds = found["kinds"]
    rows = [(what, *(quarters(one[moment], 0) for one in kinds.values())) for moment, what in STRETCHES.items()]
    change = lambda value: f"{quarters(value, 0, '+')}, certainly {value['least']:+.0f} to {value['most']:+.0f}"
    differences = [
        (kind, change(values["healthz"]), change(values["painted"])) for kind, values in found["differences"].items()
    ]
    prepared = found["prepared"]
    return (
        "\n## A cold start\n\n"
        f"![Where the time of a start goes]({PICTURE})\n\n"
        "From `csm start` to the workbench in Chromium, by the moment at which each thing was done; milliseconds. The visitor is\n"
        "signed in and comes when the command has returned; the browser has nothing of the page in its cache. Processes' starts are\n"
        f"the kernel's, to 10 ms. In turns, {found['rounds']} times each.\n\n"
        + table(("done", *kinds), *rows)
        + f"\nAgainst \"{next(iter(kinds))}\", difference of neighbours:\n\n"
        + table(("", "/healthz answers", "workbench painted"), *differences)
        + "\nA container that was made beforehand (`podman create`, then `podman start` on the clock) against `podman run` in one go, both\n"
        f"by hand: until it is up {change(prepared['active'])} ms, until /healthz answers {change(prepared['healthz'])} ms.\n"
    )


def pictures(found):
    rows = []
    for kind, one in found["kinds"].items():
        moments = [one[moment]["median"] for moment in STRETCHES]
        rows.append((kind, [after - before for before, after in zip([0, *moments], moments)]))
    title = "From csm start to the workbench: where the time goes (ms, medians)"
    return {PICTURE: chart.bars(title, list(STRETCHES.values()), rows)}
