"""Random calls on sockets of every kind, here and on the Linux underneath.

AIOPOLL_DIFFERENTIAL_OPERATIONS sets how many calls there are in all.
"""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .socket_pair import CALLS, KINDS, SocketPair

OPERATIONS_IN_ALL = int(os.environ.get("AIOPOLL_DIFFERENTIAL_OPERATIONS", "4000"))
OPERATIONS_EACH = 40

step = st.tuples(st.sampled_from(CALLS), st.integers(0, 9), st.integers(0, 9), st.integers(0, 5000))


def compare(start, steps):
    pair = SocketPair()
    try:
        for kind in start:
            pair.make(kind)
        for one in steps:
            pair.run(*one)
    finally:
        pair.finish()


@pytest.mark.slow
@settings(
    max_examples=OPERATIONS_IN_ALL // OPERATIONS_EACH,
    deadline=None,
    derandomize=True,
    print_blob=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    start=st.lists(st.sampled_from(KINDS), min_size=2, max_size=4),
    steps=st.lists(step, min_size=OPERATIONS_EACH, max_size=OPERATIONS_EACH),
)
def test_random_socket_calls(start, steps):
    compare(start, steps)
