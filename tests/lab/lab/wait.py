"""Waiting for a condition. Nothing in the lab sleeps for a fixed time."""

import time


class TimedOut(AssertionError):
    pass


def until(what, condition, deadline=30, every=0.05):
    """Calls `condition` until it returns something true, and returns that. An exception counts as "not yet"; the
    last one is the cause of the failure."""
    end = time.monotonic() + deadline
    last, value = None, None
    while True:
        try:
            last = None
            value = condition()
            if value:
                return value
        except Exception as error:
            last = error
        if time.monotonic() > end:
            raise TimedOut(f"not within {deadline} s: {what}; last answer: {last or value!r}") from last
        time.sleep(every)
