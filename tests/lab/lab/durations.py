"""How long each file and each story took: kept with the run's artifacts, and, for the order of the next run, in the cache."""

import json
import time

from . import env

# A file that takes longer holds up everybody at the end of a run, and is to be split.
MOST = 150
SHOWN = 12


def known():
    """Seconds of each file, by its latest run on this machine."""
    try:
        return json.loads((env.CACHE / "durations.json").read_text())
    except (OSError, ValueError):
        return {}


class Durations:
    """A plugin of the process that hears of all stories: the controller, or the only one. `paced` is by pace.clock(): whether a
    file has outgrown doesn't depend on what else the machine had to do."""

    def __init__(self):
        self._begun = time.time()
        self.files, self.paced, self.stories = {}, {}, {}

    def pytest_runtest_logreport(self, report):
        file = report.nodeid.split("::")[0]
        if report.failed:
            # To be read while the others go on.
            with (env.artifacts() / "failures.txt").open("a") as log:
                log.write(f"=== {report.nodeid} ({report.when}, on {getattr(report, 'node', None)})\n{report.longreprtext}\n\n")
        # xdist's own report of a worker that died has no pace.
        self.files[file] = self.files.get(file, 0) + report.duration
        self.paced[file] = self.paced.get(file, 0) + getattr(report, "paced", report.duration)
        self.stories[report.nodeid] = self.stories.get(report.nodeid, 0) + report.duration

    def pytest_sessionfinish(self):
        if not self.files:
            return
        kept = {"files": _rounded(self.files), "paced": _rounded(self.paced), "stories": _rounded(self.stories)}
        (env.artifacts() / "durations.json").write_text(json.dumps(kept, indent=1) + "\n")
        place = env.CACHE / "durations.json"
        new = place.with_name(f"durations.{env.RUN}")
        new.write_text(json.dumps(known() | kept["files"], indent=1) + "\n")
        new.replace(place)

    def pytest_terminal_summary(self, terminalreporter):
        say = terminalreporter.write_line
        say(f"{time.time() - self._begun:.0f} s in all. The slowest files (set-up and end included; beside the rest, and as on a machine of their own):")
        for file in sorted(self.files, key=self.files.get, reverse=True)[:SHOWN]:
            grown = f"  has outgrown {MOST} s: split it" if self.paced[file] > MOST else ""
            say(f"  {self.files[file]:4.0f} s {self.paced[file]:4.0f} s  {file}{grown}")
        say("The slowest stories:")
        for story in sorted(self.stories, key=self.stories.get, reverse=True)[:SHOWN]:
            say(f"  {self.stories[story]:4.0f} s  {story}")
        say(f"All of them: {env.artifacts() / 'durations.json'}")


def _rounded(seconds):
    return {name: round(took, 2) for name, took in sorted(seconds.items())}
