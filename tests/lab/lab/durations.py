"""How long each file and each story took: kept with the run's artifacts, and, of files that were played whole and passed, for the
order of the next run in the cache."""

import json
import time

import pytest

from . import env

# A file that takes longer holds up everybody at the end of a run, and is to be split.
MOST = 150
SHOWN = 12


def known():
    """Seconds of each file, by the latest run of all of it on this machine."""
    try:
        return json.loads((env.CACHE / "durations.json").read_text())
    except (OSError, ValueError):
        return {}


class Durations:
    """A plugin of the process that hears of all stories: the controller, or the only one. `paced` is by pace.clock(): whether a
    file has outgrown doesn't depend on what else the machine had to do."""

    def __init__(self, config):
        self._begun, self._whole = time.time(), _takes_whole_files(config)
        self.files, self.paced, self.stories, self._failed = {}, {}, {}, set()

    def pytest_runtest_logreport(self, report):
        file = report.nodeid.split("::")[0]
        if report.failed:
            self._failed.add(file)
            # To be read while the others go on.
            with (env.artifacts() / "failures.txt").open("a") as log:
                log.write(f"=== {report.nodeid} ({report.when}, on {getattr(report, 'node', None)})\n{report.longreprtext}\n\n")
        # xdist's own report of a worker that died has no pace.
        self.files[file] = self.files.get(file, 0) + report.duration
        self.paced[file] = self.paced.get(file, 0) + getattr(report, "paced", report.duration)
        self.stories[report.nodeid] = self.stories.get(report.nodeid, 0) + report.duration

    def pytest_sessionfinish(self, exitstatus):
        if not self.files:
            return
        kept = {"files": _rounded(self.files), "paced": _rounded(self.paced), "stories": _rounded(self.stories)}
        (env.artifacts() / "durations.json").write_text(json.dumps(kept, indent=1) + "\n")
        whole = {file: took for file, took in kept["files"].items() if file not in self._failed}
        # Else it was broken off, in the middle of some.
        ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        if not (self._whole and ended and whole):
            return
        place = env.CACHE / "durations.json"
        new = place.with_name(f"durations.{env.RUN}")
        new.write_text(json.dumps(known() | whole, indent=1) + "\n")
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


def _takes_whole_files(config):
    """Not if single stories were chosen, more of them than usual, or the first failure ends it."""
    asked = config.option
    chosen = asked.keyword or asked.deselect or asked.maxfail or asked.collectonly or any("::" in one for one in config.args)
    return not chosen and asked.markexpr == "not long"


def _rounded(seconds):
    return {name: round(took, 2) for name, took in sorted(seconds.items())}
