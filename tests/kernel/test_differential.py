"""The same operations on this kernel and on the Linux underneath: only named differences.

AIOPOLL_DIFFERENTIAL_OPERATIONS sets how many operations the random scenarios have in all;
`make conformance` asks for 100,000. A failure prints the scenario and how to run it again.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiopoll import Context, probe

from .drivers import CONTEXTS, KINDS
from .pair import OPERATIONS, Pair
from .random_operations import OPERATIONS_EACH, scenarios

pytestmark = pytest.mark.skipif(
    not probe().aio_poll, reason="this kernel has no AIO poll to compare with"
)


@pytest.fixture(scope="module")
def linux_contexts():
    """The scenarios use them in sequence, and put a new one in for each they destroy."""
    contexts = [Context(256) for _ in range(CONTEXTS)]
    yield contexts
    for context in contexts:
        context.close()


def compare(contexts, start, steps):
    pair = Pair(contexts)
    try:
        for kind in start:
            pair.make(kind)
        for step in steps:
            pair.run(*step)
        pair.finish()
    except BaseException:
        pair.abandon()
        raise


step = st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 23), st.integers(0, 5000))


@pytest.mark.slow
@scenarios()
@given(
    start=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    steps=st.lists(step, min_size=OPERATIONS_EACH, max_size=OPERATIONS_EACH),
)
def test_random_scenarios(linux_contexts, start, steps):
    compare(linux_contexts, start, steps)
