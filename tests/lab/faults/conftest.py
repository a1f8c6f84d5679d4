"""What every fault story has: people at work, sam to whom things happen, and the invariants. A file may set CLOCK, by which people
wait, see test_bombs.py."""

import pytest

from lab import pace
from lab.invariants import Invariants
from lab.subject import Subject


@pytest.fixture(scope="module")
def invariants(request, host, product):
    invariants = Invariants(host, product, getattr(request.module, "CLOCK", pace.clock))
    yield invariants
    invariants.close()


@pytest.fixture(scope="module")
def sam(host, product):
    return Subject(host, product)
