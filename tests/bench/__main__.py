"""tests/bench/run: measures, prints one document, and leaves results.json, benchmarks.md and its pictures."""

import argparse
import json
import os
import shutil
import sys
import time
import traceback
from pathlib import Path

from lab import browser as browsers, env, host as hosts

from . import cold, crowd, editor, fake, parts, place as places, report, web

# In this order: what leaves least behind comes first.
PARTS = {
    "fake": fake.fake,
    "disk": parts.disk,
    "plumbing": parts.plumbing,
    "services": parts.services,
    "start": parts.start,
    "cold": cold.cold,
    "web": web.web,
    "editor": editor.editor,
    # Fills the host with people, and leaves them there.
    "crowd": crowd.crowd,
}
# In an emulated host of its own, which takes minutes.
KERNEL = "kernel"


def main():
    asked = argparse.ArgumentParser(prog="tests/bench/run")
    asked.add_argument("--pairs", type=int, default=60, help="most starts of each kind")
    asked.add_argument("--idle", type=int, default=30, help="seconds in which nothing happens")
    asked.add_argument("--web", type=int, default=3, help="rounds with the load generator")
    asked.add_argument("--seconds", type=int, default=3, help="of one run of the load generator")
    asked.add_argument("--tabs", type=int, default=1, help="times that each kind of tab is opened")
    asked.add_argument("--crowd", type=int, default=10, help="rounds with many workspaces")
    asked.add_argument("--cold", type=int, default=5, help="rounds of each kind of cold start")
    asked.add_argument("--only", default=",".join(PARTS), help=f"parts to measure, with commas between; {KERNEL} is only done when named")
    asked.add_argument("--with", dest="earlier", type=Path, help="results.json of another run, for the parts that this one leaves out")
    asked.add_argument("--write", action="store_true", help="put the document and its pictures into docs")
    options = asked.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - {*PARTS, KERNEL}:
        asked.error(f"no such part: {', '.join(sorted(unknown))}")
    results = {"parts": json.loads(options.earlier.read_text())["parts"] if options.earlier else {}, "failed": []}
    where = env.artifacts()
    hosts.of_runs_that_died()
    say("booting a host with three workspaces")
    with places.Place() as place:
        results |= {"machine": places.machine(), "versions": places.versions(place)}
        for name in PARTS:
            if name in chosen:
                measure(results, name, where, lambda: PARTS[name](place, options))
    if KERNEL in chosen:
        measure(results, KERNEL, where, lambda: parts.other_kernel(options))
    browsers.stop()
    files = report.files(results)
    for name, text in files.items():
        put(where, name, text)
        if options.write and not results["failed"]:
            put(env.CHECKOUT / "docs", name, text)
    print(files["benchmarks.md"])
    say(f"results.json, benchmarks.md and its pictures are in {where}")
    if results["failed"]:
        sys.exit(f"not measured: {', '.join(results['failed'])}; repeat them with --only, and --with {where}/results.json")


def measure(results, name, where, part):
    """Every part says itself when and on what it was measured, and is on disk before the next one begins."""
    load = places.load()
    say(f"{name}, load {load:.1f}")
    at, begun = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), time.monotonic()
    try:
        found = part()
    except Exception:
        # The others are worth having.
        traceback.print_exc()
        results["failed"].append(name)
        return
    results["parts"][name] = {"at": at, "commit": places.commit(), "load": load, "took": time.monotonic() - begun, "found": found}
    (where / "results.json.new").write_text(json.dumps(results, indent=1) + "\n")
    shutil.move(where / "results.json.new", where / "results.json")


def put(directory, name, text):
    place = directory / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def say(what, begun=time.monotonic()):
    print(f"{time.monotonic() - begun:4.0f} s  {what}", file=sys.stderr)


if __name__ == "__main__":
    os.environ.setdefault(env.MARK, env.RUN)
    main()
