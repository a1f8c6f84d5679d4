"""Where things are, and the name of this run. Nothing here may write into the checkout."""

import functools
import os
import re
import shutil
import time
from pathlib import Path

LAB = Path(__file__).resolve().parent.parent
CHECKOUT = LAB.parent.parent
CACHE = Path(
    os.environ.get("CSM_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "code-server-multi"
)


def process(pid):
    """A process by its number and the moment of its start (proc_pid_stat(5)): the number's next owner is another one."""
    return f"{pid}x{Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[19]}"


def is_alive(named):
    """Whether a process that `process` has named still runs."""
    try:
        return process(named.partition("x")[0]) == named
    except OSError:
        return False


# Every process that a run starts inherits this, so that what is left of it can be told from other runs'.
MARK = "CSM_LAB_RUN"
# Of several workers that share a run each has a name, and the hosts, processes and links that it makes are called after it.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
RUN = os.environ.setdefault(MARK, f"r{process(os.getpid())}")
if WORKER and not RUN.endswith(f"-{WORKER}"):
    RUN = os.environ[MARK] = f"{RUN}-{WORKER}"

DOMAIN = "code.example.test"


def product(what):
    """What `prepare lab` made: CSM, IMAGE or STORE."""
    value = os.environ.get(f"CSM_LAB_{what}")
    if not value:
        raise RuntimeError(f"CSM_LAB_{what} is not set; start through tests/run, or eval the output of prepare")
    return Path(value)


@functools.cache
def artifacts():
    """A directory of this run's own; of those that have ended, the newest nine stay."""
    given = os.environ.get("CSM_ARTIFACTS")
    if given:
        place = Path(given)
    else:
        above = CACHE / "artifacts"
        place = above / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(_started()))}-{RUN}"
        if not place.exists() and above.exists():
            for old in sorted(one for one in above.iterdir() if not _is_written(one))[:-9]:
                shutil.rmtree(old, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    return place


def _is_written(place):
    """Named after its run, as above."""
    run = re.search(r"-r(\d+x\d+)$", place.name)
    return bool(run) and is_alive(run[1])


def _started():
    return os.stat(f"/proc/{os.getpid()}").st_ctime
