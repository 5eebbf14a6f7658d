"""io_setup02: bad counts, a context pointer that is not NULL or none, more than fs.aio-max-nr."""

import errno
from pathlib import Path

import pytest

from aiopoll import Context


def test_bad_arguments(machine) -> None:
    ctx = machine.new_context()
    for maxevents in (-1, 0, 0x400001):
        assert machine.io_setup(maxevents, ctx) == -errno.EINVAL
    assert machine.io_setup(1, None) == -errno.EFAULT
    assert machine.io_setup(1, ctx) == 0
    assert machine.io_setup(1, ctx) == -errno.EINVAL
    assert machine.io_destroy(ctx) == 0


def test_more_than_the_machine_has(machine) -> None:
    # No context can be larger than this, whatever the sysctl says.
    nr_events = min(machine.sysctl("aio-max-nr") + 1, 0x400000)
    if nr_events > machine.sysctl("aio-max-nr"):
        assert machine.io_setup(nr_events, machine.new_context()) == -errno.EAGAIN


def test_context_with_bad_counts() -> None:
    for nr_events in (-1, 0, 2**32):
        with pytest.raises(ValueError, match="nr_events"):
            Context(nr_events)


def test_context_with_more_than_the_machine_has() -> None:
    aio_max_nr = int(Path("/proc/sys/fs/aio-max-nr").read_text(encoding="ascii"))
    nr_events = min(aio_max_nr + 1, 0x400000)
    if nr_events > aio_max_nr:
        with pytest.raises(OSError, match="aio-max-nr") as caught:
            Context(nr_events)
        assert caught.value.errno == errno.EAGAIN


def test_context_is_set_up_once() -> None:
    with Context(1) as context:
        with pytest.raises(RuntimeError):
            context.__init__(1)  # type: ignore[misc]
        assert not context.closed
