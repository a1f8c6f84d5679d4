"""What is drawn: the calls and boundaries that the daemon is killed at, the moments, the histories. One seed for all of a run,
which the run tells at its beginning; CSM_LAB_SEED repeats it. tests/long draws nothing where there is an end to it."""

import collections
import os
import random
import time

# Workers have it from whom they were started by.
SEED = os.environ.setdefault("CSM_LAB_SEED", str(time.time_ns() % 1_000_000))


def of(story):
    """A story's own, so that others neither change nor share what it draws."""
    return random.Random(f"{SEED} {story}")


class Draw:
    """Draws one after the other until `enough` were met, or takes "all" in their order. What a daemon does differs a little from
    time to time, so that one that was drawn may not come up: then another one is drawn, or, where all are wanted, it is tried
    again when all others were."""

    # Of one that does not come up.
    TRIES = 3

    def __init__(self, dice, things, enough):
        self._left, self.met, self.drawn = list(things), 0, 0
        self._again = collections.Counter(dict.fromkeys(things, self.TRIES - 1) if enough == "all" else ())
        self.wanted = len(self._left) if enough == "all" else min(int(enough), len(self._left))
        if enough != "all":
            dice.shuffle(self._left)

    def next(self):
        """Nothing when it is over."""
        if not self._left or self.met >= self.wanted:
            return None
        self.drawn += 1
        return self._left.pop(0)

    def took(self, one, met):
        """Whether it came up."""
        self.met += met
        if not met and self._again[one] > 0:
            self._again[one] -= 1
            self._left.append(one)

    def __str__(self):
        return f"{self.met} of {self.drawn} that were drawn, {len(self._left)} were not"
