"""Random calls on sockets of every kind, here and on the Linux underneath.

AIOPOLL_DIFFERENTIAL_OPERATIONS sets how many calls there are in all.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .random_operations import OPERATIONS_EACH, scenarios
from .socket_pair import CALLS, KINDS, SocketPair

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
@scenarios()
@given(
    start=st.lists(st.sampled_from(KINDS), min_size=2, max_size=4),
    steps=st.lists(step, min_size=OPERATIONS_EACH, max_size=OPERATIONS_EACH),
)
def test_random_socket_calls(start, steps):
    compare(start, steps)
