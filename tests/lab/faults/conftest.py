"""What every fault story has: people at work, sam to whom things happen, and the invariants."""

import pytest

from lab.invariants import Invariants
from lab.subject import Subject


@pytest.fixture(scope="module")
def invariants(host, product):
    invariants = Invariants(host, product)
    yield invariants
    invariants.close()


@pytest.fixture(scope="module")
def sam(host, product):
    return Subject(host, product)
