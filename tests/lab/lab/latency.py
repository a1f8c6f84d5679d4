"""How long answers take."""

import statistics
import time


def of_health(product, name, count):
    """Seconds, of each of `count` questions to somebody's editor."""
    with product.visitor(name) as client:
        return of(lambda: client.get("/healthz"), count)


def of(ask, count, code=200, clock=time.monotonic):
    """Seconds, of each of `count` requests that are answered with that status. To be compared with others that were measured
    beside them; by pace.clock, with what is promised."""
    took = []
    for _ in range(count):
        begun = clock()
        answer = ask()
        took.append(clock() - begun)
        assert answer.status_code == code, answer
    return took


def percentile(values, which):
    return statistics.quantiles(values, n=100, method="inclusive")[which - 1]


def summary(values):
    return f"p50 {percentile(values, 50) * 1000:.0f} ms, p99 {percentile(values, 99) * 1000:.0f} ms"
