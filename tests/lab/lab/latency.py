"""How long answers take, beside how long they took without what is asked about. Only files that are played ALONE compare so: the
machine has to be as busy with other things for the one as for the other."""

import statistics
import time

# What nobody notices, and less than one turn of all who share two processors here.
UNNOTICED = 0.05
# Measured again, where what it is measured beside goes on.
TRIES = 4
# Taken in rounds, so that what the machine does at one moment falls into one of them.
ROUNDS = 8


def of_health(product, name, count):
    """Seconds, in rounds, of `count` questions to somebody's editor."""
    with product.visitor(name) as client:
        return in_rounds(lambda: client.get("/healthz"), count)


def in_rounds(ask, count, code=200):
    return [of(ask, count // ROUNDS, code) for _ in range(ROUNDS)]


def of(ask, count, code=200):
    """Seconds, of each of `count` requests that are answered with that status."""
    took = []
    for _ in range(count):
        begun = time.monotonic()
        answer = ask()
        took.append(time.monotonic() - begun)
        assert answer.status_code == code, answer
    return took


def late(rounds):
    """The 99th percentile of a round, as it is in the median round. A round of some dozen samples has none: there it is nearly
    the longest of them, so that what is compared is how long the worst of an ordinary round is."""
    return statistics.median(percentile(one, 99) for one in rounds)


def assert_unnoticed(what, before, meanwhile, unnoticed=UNNOTICED):
    """Both in rounds. The latest are at most twice as late as they were before, or so early that nobody notices."""
    both = [late(before), late(meanwhile)]
    samples = min(map(len, (*before, *meanwhile)))
    said = "{}: 99th percentile of the median round, of {} samples or more: {:.0f} ms before, {:.0f} ms meanwhile".format(what, samples, *(one * 1000 for one in both))
    print(said)
    assert both[1] <= max(2 * both[0], unnoticed), said


def assert_stays_unnoticed(before, ask, unnoticed=UNNOTICED):
    """`before`: {what: rounds}; `ask` gives the same anew, beside what goes on for as long as it is asked. That is there each time it is
    measured, while the work that somebody else begins on this machine in between is not."""
    for tries_left in reversed(range(TRIES)):
        try:
            for what, took in ask().items():
                assert_unnoticed(what, before[what], took, unnoticed)
            return
        except AssertionError:
            if not tries_left:
                raise


def percentile(values, which):
    return statistics.quantiles(values, n=100, method="inclusive")[which - 1]
