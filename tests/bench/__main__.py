"""tests/bench/run: measures, prints one table, and leaves results.json and benchmarks.md."""

import argparse
import json
import os
import sys
import time

from lab import browser as browsers, env, host as hosts

from . import editor, parts, place as places, report, web

# In this order: what disturbs the machine least comes first.
PARTS = {
    "disk": parts.disk,
    "plumbing": parts.plumbing,
    "services": parts.services,
    "start": parts.start,
    "web": web.web,
    "editor": editor.editor,
}


# In an emulated host of its own, which takes minutes.
KERNEL = "kernel"


def main():
    asked = argparse.ArgumentParser(prog="tests/bench/run")
    asked.add_argument("--rounds", type=int, default=20, help="starts of each kind")
    asked.add_argument("--idle", type=int, default=60, help="seconds in which nothing happens")
    asked.add_argument("--web", type=int, default=5, help="rounds with the load generator")
    asked.add_argument("--seconds", type=int, default=5, help="of one run of the load generator")
    asked.add_argument("--tabs", type=int, default=3, help="times that each kind of tab is opened")
    asked.add_argument("--only", default=",".join(PARTS), help=f"parts to measure, with commas between; {KERNEL} is only done when named")
    options = asked.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - {*PARTS, KERNEL}:
        asked.error(f"no such part: {', '.join(sorted(unknown))}")
    hosts.of_runs_that_died()
    results = {"at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "machine": places.machine(), "load": {}}
    results["load"]["before"] = places.load()
    say("booting a host with three workspaces")
    with places.Place() as place:
        results["versions"] = places.versions(place)
        for name in PARTS:
            if name in chosen:
                say(f"{name}, load {places.load():.1f}")
                results["load"][name] = places.load()
                results[name] = PARTS[name](place, options)
        results["load"]["after"] = places.load()
    if KERNEL in chosen:
        say("booting a virtual machine with three workspaces")
        results[KERNEL] = parts.other_kernel(options)
    browsers.stop()
    text = report.document(results)
    where = env.artifacts()
    (where / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (where / "benchmarks.md").write_text(text)
    print(text)
    say(f"results.json and benchmarks.md are in {where}")


def say(what, begun=time.monotonic()):
    print(f"{time.monotonic() - begun:4.0f} s  {what}", file=sys.stderr)


if __name__ == "__main__":
    os.environ.setdefault(env.MARK, env.RUN)
    main()
