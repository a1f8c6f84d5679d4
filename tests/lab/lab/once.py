"""What is made once for all runs of this machine, and kept in the cache: as `once` in bin/common.sh, with the same locks."""

import contextlib
import fcntl
import shutil
import subprocess
from pathlib import Path


def once(place, make):
    """Has `make` write to a new name, a file or a directory, that takes its place only when complete and on disk: neither a crash
    nor a second caller ever sees half of it. Whether it was made just now."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{place}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.exists():
            return False
        new = Path(f"{place}.new")
        shutil.rmtree(new, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            new.unlink()
        make(new)
        subprocess.run(["sync", "--file-system", place.parent], check=True)
        new.rename(place)
        return True
