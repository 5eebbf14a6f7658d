"""Case 19: events reaped from a ring that mremap(2) has moved."""

import pytest

from aiopoll.libaio import io_context_t


def test_ring_moved_by_mremap(ctx: io_context_t, gap) -> None:
    with pytest.raises((TypeError, ValueError)):
        int(ctx)  # type: ignore[call-overload]  # there is no address to move
    pytest.skip(gap("libaio case 19: mremap of the ring"))
