"""Waiting for a condition. Nothing in the lab sleeps for a fixed time."""

import time

from . import pace


# Between two questions.
LEAST_OFTEN = 0.5


class TimedOut(AssertionError):
    pass


def until(what, condition, deadline=30, every=0.05):
    """Calls `condition` until it returns something true, and returns that. An exception counts as "not yet"; the
    last one is the cause of the failure. The deadline is in seconds of pace.clock(); what is asked before it counts, however
    long the answer takes, and nothing is asked after it. What has taken longer is asked less often: asking costs processes, which
    others want as well."""
    begun, end = time.monotonic(), pace.clock() + deadline
    last, value = None, None
    while True:
        try:
            last = None
            value = condition()
            if value:
                return value
        except Exception as error:
            last = error
        if not _pause(begun, end, every):
            took = time.monotonic() - begun
            raise TimedOut(f"not within {deadline} s ({took:.0f} s beside what else ran): {what}; last answer: {last or value!r}") from last


def _pause(begun, end, every):
    """Until it is time for another question, of which the last is asked shortly before the end. Whether it still is."""
    left = end - pace.clock()
    if left <= every:
        return False
    time.sleep(max(every, min(LEAST_OFTEN, (time.monotonic() - begun) / 20, left - every)))
    return pace.clock() <= end
