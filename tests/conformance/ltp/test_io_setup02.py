"""io_setup02: the system call under Context: bad counts, more than fs.aio-max-nr, success."""

import errno
from pathlib import Path

import pytest

from aiopoll import Context
from aiopoll.libaio import io_context_t, io_setup


def test_bad_counts() -> None:
    for nr_events in (-1, 0, 2**32):
        with pytest.raises(ValueError, match="nr_events"):
            Context(nr_events)


def test_more_than_the_machine_has() -> None:
    # No context can be larger than this, whatever the sysctl says.
    aio_max_nr = int(Path("/proc/sys/fs/aio-max-nr").read_text(encoding="ascii"))
    nr_events = min(aio_max_nr + 1, 0x400000)
    if nr_events > aio_max_nr:
        with pytest.raises(OSError, match="aio-max-nr") as caught:
            Context(nr_events)
        assert caught.value.errno == errno.EAGAIN
        assert io_setup(nr_events, io_context_t()) == -errno.EAGAIN
    assert io_setup(0x400001, io_context_t()) == -errno.EINVAL


def test_a_context_is_set_up_once() -> None:
    with Context(1) as context:
        with pytest.raises(RuntimeError):
            context.__init__(1)  # type: ignore[misc]
        assert not context.closed


def test_context_pointers_do_not_exist_here() -> None:
    assert io_setup(1, None) == -errno.EFAULT
