"""aiopoll.libaio: each function of libaio, with its own names and -errno results."""

import ctypes
import errno
import gc
import os
import select
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.kernel import nowait_errno_of_an_empty_pipe

from aiopoll import libaio
from aiopoll.libaio import (
    io_context_t,
    io_event,
    iocb,
    timespec,
)

NOW = timespec(0, 0)


@pytest.fixture(autouse=True)
def _reap_as_told(user_ring: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPOLL_USER_RING", "1" if user_ring else "0")


@pytest.fixture
def ctx(_reap_as_told: None) -> Iterator[io_context_t]:
    ctx = io_context_t()
    assert libaio.io_setup(16, ctx) == 0
    yield ctx
    if not ctx.context.closed:
        assert libaio.io_destroy(ctx) == 0


@pytest.fixture
def file_fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(fd, b"0123456789")
    yield fd
    os.close(fd)


def polled(fd: int, data: object = None) -> iocb:
    cb = iocb()
    libaio.io_prep_poll(cb, fd, select.POLLIN)
    cb.data = data
    return cb


def reap_one(ctx: io_context_t) -> io_event:
    event = io_event()
    assert libaio.io_getevents(ctx, 1, 1, [event], timespec(30)) == 1
    return event


def result_of(ctx: io_context_t, cb: iocb) -> int:
    assert libaio.io_submit(ctx, 1, [cb]) == 1
    event = reap_one(ctx)
    assert event.obj is cb
    return event.res


# io_setup, io_destroy and their older names


@pytest.mark.parametrize("setup", [libaio.io_setup, libaio.io_queue_init])
@pytest.mark.parametrize("destroy", [libaio.io_destroy, libaio.io_queue_release])
def test_setup_and_destroy(setup, destroy) -> None:
    ctx = io_context_t()
    assert not ctx
    assert setup(1, ctx) == 0
    assert ctx
    assert destroy(ctx) == 0
    assert ctx, "a stale handle is not NULL"
    assert destroy(ctx) == -errno.EINVAL


def test_io_setup_refuses_non_null_but_queue_init_does_not() -> None:
    ctx = io_context_t()
    assert libaio.io_setup(1, ctx) == 0
    assert libaio.io_destroy(ctx) == 0
    assert libaio.io_setup(1, ctx) == -errno.EINVAL
    assert libaio.io_queue_init(1, ctx) == 0
    assert libaio.io_queue_release(ctx) == 0


def test_setup_counts() -> None:
    for maxevents in (-1, 0, 2**31 - 1):
        assert libaio.io_setup(maxevents, io_context_t()) == -errno.EINVAL
        assert libaio.io_queue_init(maxevents, io_context_t()) == -errno.EINVAL
    assert libaio.io_setup(1, None) == -errno.EFAULT
    assert libaio.io_queue_init(1, None) == -errno.EFAULT


def test_wrong_types_raise() -> None:
    with pytest.raises(TypeError, match="ctxp"):
        libaio.io_setup(1, 0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="maxevents"):
        libaio.io_setup("1", io_context_t())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="ctx"):
        libaio.io_destroy(0)  # type: ignore[arg-type]


def test_arrays_of_wrong_types_raise_before_any_call(
    ctx: io_context_t, pipe: tuple[int, int]
) -> None:
    os.write(pipe[1], b"x")
    cb = polled(pipe[0])
    with pytest.raises(TypeError, match="ios"):
        libaio.io_submit(ctx, 2, [cb, 0])  # type: ignore[list-item]
    assert libaio.io_submit(ctx, 1, [cb]) == 1
    with pytest.raises(TypeError, match="events"):
        libaio.io_getevents(ctx, 1, 1, [None], None)  # type: ignore[list-item]
    with pytest.raises(TypeError, match="timeout"):
        libaio.io_getevents(ctx, 1, 1, [io_event()], 1.0)  # type: ignore[arg-type]
    assert reap_one(ctx).obj is cb


def test_calls_on_a_destroyed_context(ctx: io_context_t, pipe: tuple[int, int]) -> None:
    cb = polled(pipe[0])
    assert libaio.io_submit(ctx, 1, [cb]) == 1
    assert libaio.io_destroy(ctx) == 0
    assert libaio.io_submit(ctx, 1, [cb]) == -errno.EINVAL
    assert libaio.io_cancel(ctx, cb, None) == -errno.EINVAL
    assert libaio.io_getevents(ctx, 0, 1, [io_event()], None) == -errno.EINVAL
    assert libaio.io_pgetevents(ctx, 0, 1, [io_event()], None, None) == -errno.EINVAL
    assert libaio.io_queue_run(ctx) == -errno.EINVAL
    assert libaio.io_queue_wait(ctx, None) == -errno.EINVAL


# io_prep_*: the fields, and their effects


def test_prep_fills_in_the_fields() -> None:
    cb, buf = iocb(), bytearray(8)
    cb.data, cb.key, cb.u.c.flags = "old", 7, 3
    libaio.io_prep_pread(cb, 5, buf, 6, 7)
    assert (cb.data, cb.key, cb.aio_reqprio, cb.aio_rw_flags, cb.u.c.flags) == (None, 0, 0, 0, 0)
    assert (cb.aio_lio_opcode, cb.aio_fildes) == (libaio.IO_CMD_PREAD, 5)
    assert (cb.u.c.buf, cb.u.c.nbytes, cb.u.c.offset) == (buf, 6, 7)
    libaio.io_prep_pwrite(cb, 5, buf, 6, 7)
    assert cb.aio_lio_opcode == libaio.IO_CMD_PWRITE
    libaio.io_prep_preadv2(cb, 5, [buf], 1, 7, os.RWF_NOWAIT)
    assert (cb.aio_lio_opcode, cb.aio_rw_flags) == (libaio.IO_CMD_PREADV, os.RWF_NOWAIT)
    assert (cb.u.v.vec, cb.u.v.nr, cb.u.v.offset) == ([buf], 1, 7)
    libaio.io_prep_pwritev2(cb, 5, [buf], 1, 7, os.RWF_SYNC)
    assert (cb.aio_lio_opcode, cb.aio_rw_flags) == (libaio.IO_CMD_PWRITEV, os.RWF_SYNC)
    libaio.io_prep_poll(cb, 5, select.POLLIN)
    assert (cb.aio_lio_opcode, cb.u.poll.events) == (libaio.IO_CMD_POLL, select.POLLIN)
    libaio.io_prep_fsync(cb, 5)
    assert (cb.aio_lio_opcode, cb.u.c.buf) == (libaio.IO_CMD_FSYNC, None)
    libaio.io_prep_fdsync(cb, 5)
    assert cb.aio_lio_opcode == libaio.IO_CMD_FDSYNC


def test_pread_and_pwrite_take_only_count_bytes(ctx: io_context_t, file_fd: int) -> None:
    cb, buf = iocb(), bytearray(b"........")
    libaio.io_prep_pread(cb, file_fd, buf, 3, 2)
    assert result_of(ctx, cb) == 3
    assert buf == b"234....."
    libaio.io_prep_pwrite(cb, file_fd, b"abcdef", 2, 1)
    assert result_of(ctx, cb) == 2
    assert os.pread(file_fd, 10, 0) == b"0ab3456789"


def test_count_in_bytes_of_an_array_of_larger_items(ctx: io_context_t, file_fd: int) -> None:
    cb, array = iocb(), (ctypes.c_uint32 * 2)()
    libaio.io_prep_pread(cb, file_fd, memoryview(array).cast("B").cast("I"), 6, 0)
    assert result_of(ctx, cb) == 6
    assert bytes(array) == b"012345\0\0"


@pytest.mark.parametrize("version", ["", "2"])
def test_preadv_and_pwritev_take_only_iovcnt_buffers(
    ctx: io_context_t, file_fd: int, version: str
) -> None:
    flags = (0,) if version else ()
    cb, iov = iocb(), [bytearray(2), bytearray(3), bytearray(4)]
    getattr(libaio, f"io_prep_preadv{version}")(cb, file_fd, iov, 2, 1, *flags)
    assert result_of(ctx, cb) == 5
    assert iov == [b"12", b"345", bytes(4)]
    getattr(libaio, f"io_prep_pwritev{version}")(cb, file_fd, iov, 2, 0, *flags)
    assert result_of(ctx, cb) == 5
    assert os.pread(file_fd, 10, 0) == b"1234556789"


def test_flags_reach_the_kernel(ctx: io_context_t, pipe: tuple[int, int]) -> None:
    cb = iocb()
    libaio.io_prep_preadv2(cb, pipe[0], [bytearray(1)], 1, 0, os.RWF_NOWAIT)
    if (expected := nowait_errno_of_an_empty_pipe()) == errno.EAGAIN:
        assert result_of(ctx, cb) == -errno.EAGAIN
    else:  # without the flag, the pipe that does not block would be EAGAIN
        assert libaio.io_submit(ctx, 1, [cb]) == -expected
    cb.aio_rw_flags = -1
    assert libaio.io_submit(ctx, 1, [cb]) == -errno.EOPNOTSUPP


@pytest.mark.parametrize("prep", [libaio.io_prep_pread, libaio.io_prep_pwrite])
def test_count_larger_than_the_buffer(ctx: io_context_t, file_fd: int, prep) -> None:
    cb = iocb()
    with pytest.raises(ValueError, match="only 4"):
        prep(cb, file_fd, bytearray(4), 5, 0)
    prep(cb, file_fd, bytearray(4), 4, 0)
    cb.u.c.nbytes = 5
    with pytest.raises(ValueError, match="only 4"):
        libaio.io_submit(ctx, 1, [cb])
    cb.u.c.nbytes = -1
    assert libaio.io_submit(ctx, 1, [cb]) == -errno.EINVAL


@pytest.mark.parametrize("prep", [libaio.io_prep_preadv, libaio.io_prep_pwritev])
def test_iovcnt_larger_than_the_array(ctx: io_context_t, file_fd: int, prep) -> None:
    cb = iocb()
    with pytest.raises(ValueError, match="only 1"):
        prep(cb, file_fd, [bytearray(4)], 2, 0)
    prep(cb, file_fd, [bytearray(4)], 1, 0)
    cb.u.v.nr = 2
    with pytest.raises(ValueError, match="only 1"):
        libaio.io_submit(ctx, 1, [cb])


def test_null_buffers(ctx: io_context_t, file_fd: int) -> None:
    cb = iocb()
    libaio.io_prep_pread(cb, file_fd, None, 1, 0)
    assert libaio.io_submit(ctx, 1, [cb]) == -errno.EFAULT
    libaio.io_prep_pread(cb, file_fd, None, 0, 0)
    assert result_of(ctx, cb) == 0
    libaio.io_prep_preadv(cb, file_fd, None, 0, 0)
    assert result_of(ctx, cb) == 0


def test_read_into_bytes_is_refused(ctx: io_context_t, file_fd: int) -> None:
    cb = iocb()
    libaio.io_prep_pread(cb, file_fd, b"constant", 8, 0)
    with pytest.raises(BufferError):
        libaio.io_submit(ctx, 1, [cb])


@pytest.mark.parametrize("prep", [libaio.io_prep_fsync, libaio.io_prep_fdsync])
def test_fsync(ctx: io_context_t, file_fd: int, prep) -> None:
    cb = iocb()
    prep(cb, file_fd)
    assert result_of(ctx, cb) == 0
    cb.u.c.offset = 1  # a field that must be 0
    assert libaio.io_submit(ctx, 1, [cb]) == -errno.EINVAL
    prep(cb, file_fd)
    cb.u.c.buf = b"an address"
    assert libaio.io_submit(ctx, 1, [cb]) == -errno.EINVAL


def test_poll_masks(ctx: io_context_t, pipe: tuple[int, int]) -> None:
    cb = iocb()
    for events in (-1, 0x10000):
        libaio.io_prep_poll(cb, pipe[0], events)
        assert libaio.io_submit(ctx, 1, [cb]) == -errno.EINVAL
    os.write(pipe[1], b"x")
    assert result_of(ctx, polled(pipe[0])) == select.POLLIN


def test_noop_and_unknown_opcodes(ctx: io_context_t, file_fd: int) -> None:
    for opcode in (libaio.IO_CMD_NOOP, 4, 9):
        cb = iocb()
        cb.aio_lio_opcode, cb.aio_fildes = opcode, file_fd
        assert libaio.io_submit(ctx, 1, [cb]) == -errno.EINVAL


def test_set_eventfd(ctx: io_context_t, file_fd: int) -> None:
    event_fd = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        cb = iocb()
        libaio.io_prep_pread(cb, file_fd, bytearray(1), 1, 0)
        libaio.io_set_eventfd(cb, event_fd)
        assert result_of(ctx, cb) == 1
        assert os.eventfd_read(event_fd) == 1
        libaio.io_set_eventfd(cb, file_fd)
        assert libaio.io_submit(ctx, 1, [cb]) == -errno.EINVAL
    finally:
        os.close(event_fd)


def test_reqprio_counts_only_with_its_flag(ctx: io_context_t, file_fd: int) -> None:
    cb = iocb()
    libaio.io_prep_pread(cb, file_fd, bytearray(1), 1, 0)
    cb.aio_reqprio = -1  # class 7: there is none
    cb.u.c.flags = 2
    assert libaio.io_submit(ctx, 1, [cb]) == -errno.EINVAL
    cb.aio_reqprio = 2 << 13 | 4  # best effort, level 4
    assert result_of(ctx, cb) == 1
    cb.aio_reqprio, cb.u.c.flags = -1, 0
    assert result_of(ctx, cb) == 1


# io_submit


def test_short_counts(ctx: io_context_t, pipe: tuple[int, int]) -> None:
    bad = polled(-1)
    assert libaio.io_submit(ctx, 3, [polled(pipe[0]), bad, polled(pipe[0])]) == 1
    assert libaio.io_submit(ctx, 2, [bad, polled(pipe[0])]) == -errno.EBADF
    assert libaio.io_submit(ctx, 2, [polled(pipe[0]), None]) == 1
    os.write(pipe[1], b"x")
    assert libaio.io_getevents(ctx, 2, 8, [io_event() for _ in range(8)], timespec(30)) == 2


def test_submit_more_than_given(ctx: io_context_t, pipe: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="ios has only 1"):
        libaio.io_submit(ctx, 2, [polled(pipe[0])])


def test_submit_zeroes_the_key(ctx: io_context_t, pipe: tuple[int, int]) -> None:
    cb = polled(pipe[0])
    cb.key = 5
    assert libaio.io_submit(ctx, 1, [cb]) == 1
    assert cb.key == 0


def test_an_iocb_is_copied_by_submit(ctx: io_context_t, pipe: tuple[int, int]) -> None:
    cb = polled(pipe[0], data="first")
    assert libaio.io_submit(ctx, 1, [cb]) == 1
    libaio.io_prep_poll(cb, pipe[0], select.POLLIN)
    cb.data = "second"
    assert libaio.io_submit(ctx, 1, [cb]) == 1
    os.write(pipe[1], b"x")
    events = [reap_one(ctx), reap_one(ctx)]
    assert {event.data for event in events} == {"first", "second"}
    assert all(event.obj is cb for event in events)


def test_iocb_and_buffer_live_until_the_event(ctx: io_context_t, pipe: tuple[int, int]) -> None:
    cb = polled(pipe[0])
    alive = weakref.ref(cb)
    assert libaio.io_submit(ctx, 1, [cb]) == 1
    del cb
    gc.collect()
    assert alive() is not None
    os.write(pipe[1], b"x")
    event = reap_one(ctx)
    assert event.obj is alive()
    del event
    assert alive() is None, "the context kept what it had delivered"


# io_cancel


def test_cancel(ctx: io_context_t, pipe: tuple[int, int]) -> None:
    cb, evt = polled(pipe[0]), io_event()
    assert libaio.io_cancel(ctx, cb, evt) == -errno.EINVAL
    assert libaio.io_submit(ctx, 1, [cb]) == 1
    assert libaio.io_cancel(ctx, cb, evt) == -errno.EINPROGRESS
    assert libaio.io_cancel(ctx, cb, evt) == -errno.EINVAL
    event = reap_one(ctx)
    assert (event.obj, event.res) == (cb, 0)
    assert evt.obj is None
    assert libaio.io_cancel(ctx, cb, evt) == -errno.EINVAL


def test_cancel_finds_each_submission(ctx: io_context_t, pipe: tuple[int, int]) -> None:
    cb = polled(pipe[0])
    assert libaio.io_submit(ctx, 2, [cb, cb]) == 2
    results = [libaio.io_cancel(ctx, cb, None) for _ in range(3)]
    assert results == [-errno.EINPROGRESS, -errno.EINPROGRESS, -errno.EINVAL]
    assert [reap_one(ctx).res, reap_one(ctx).res] == [0, 0]


def test_cancel_demands_key_zero(ctx: io_context_t, pipe: tuple[int, int]) -> None:
    cb = polled(pipe[0])
    assert libaio.io_submit(ctx, 1, [cb]) == 1
    cb.key = 1
    assert libaio.io_cancel(ctx, cb, None) == -errno.EINVAL
    cb.key = 0
    assert libaio.io_cancel(ctx, cb, None) == -errno.EINPROGRESS
    assert libaio.io_cancel(ctx, None, None) == -errno.EFAULT
    reap_one(ctx)


# io_getevents and io_pgetevents


def getevents_with(sigmask: object):
    def io_getevents(*arguments) -> int:
        return libaio.io_pgetevents(*arguments, sigmask)

    return io_getevents


getevents_variants = pytest.mark.parametrize(
    "getevents",
    [libaio.io_getevents, getevents_with(None), getevents_with(set())],
    ids=["io_getevents", "io_pgetevents", "io_pgetevents with a mask"],
)


@getevents_variants
def test_getevents_fills_in_the_events(ctx: io_context_t, pipe: tuple[int, int], getevents) -> None:
    iocbs = [polled(pipe[0], data=i) for i in range(3)]
    os.write(pipe[1], b"x")
    assert libaio.io_submit(ctx, 3, iocbs) == 3
    events = [io_event() for _ in range(4)]
    assert getevents(ctx, 1, 2, events, None) == 2
    assert getevents(ctx, 0, 2, events[2:], None) == 1
    assert {event.data for event in events[:3]} == {0, 1, 2}
    assert all(event.obj is iocbs[event.data] for event in events[:3])
    assert all((event.res, event.res2) == (select.POLLIN, 0) for event in events[:3])
    assert events[3].obj is None


@getevents_variants
def test_getevents_bad_arguments(ctx: io_context_t, pipe: tuple[int, int], getevents) -> None:
    os.write(pipe[1], b"x")
    assert libaio.io_submit(ctx, 1, [polled(pipe[0])]) == 1
    events = [io_event()]
    assert getevents(None, 0, 1, events, NOW) == -errno.EINVAL
    assert getevents(ctx, -1, 1, events, NOW) == -errno.EINVAL
    assert getevents(ctx, 1, 0, events, NOW) == -errno.EINVAL
    assert getevents(ctx, 0, -1, events, NOW) == -errno.EINVAL
    assert getevents(ctx, 1, 1, None, NOW) == -errno.EFAULT
    with pytest.raises(ValueError, match="events has only 1"):
        getevents(ctx, 1, 2, events, NOW)
    assert getevents(ctx, 0, 0, None, None) == 0
    assert getevents(ctx, 1, 1, events, timespec(30)) == 1


@getevents_variants
def test_getevents_with_an_empty_ring_and_no_time(
    ctx: io_context_t, user_ring: bool, getevents
) -> None:
    before = ctx.context.statistics().getevents_calls
    assert getevents(ctx, 1, 1, [io_event()], NOW) == 0
    calls = ctx.context.statistics().getevents_calls - before
    assert calls == (0 if ctx.context.user_ring else 1)
    assert ctx.context.user_ring <= user_ring


@getevents_variants
def test_getevents_timeout(ctx: io_context_t, getevents) -> None:
    assert getevents(ctx, 1, 1, [io_event()], timespec(0, 1)) == 0


@getevents_variants
@pytest.mark.parametrize("timeout", [None, timespec(-1, 0), timespec(0, -1)], ids=repr)
def test_getevents_waits_without_limit_until_a_signal(
    ctx: io_context_t, getevents, timeout: timespec | None
) -> None:
    calls = []
    previous = signal.signal(signal.SIGALRM, lambda *_: calls.append(1))
    try:
        # Again and again, for the first one may come before the wait has begun.
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        assert getevents(ctx, 1, 1, [io_event()], timeout) == -errno.EINTR
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert calls


def test_exception_of_a_signal_handler_propagates(ctx: io_context_t) -> None:
    def handler(*_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise LookupError

    previous = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        with pytest.raises(LookupError):
            libaio.io_getevents(ctx, 1, 1, [io_event()], None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_pgetevents_mask_holds_during_the_wait(ctx: io_context_t) -> None:
    calls = []
    previous = signal.signal(signal.SIGUSR1, lambda *_: calls.append(1))
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        # To this thread: others of the process (faulthandler's) may not block the signal.
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        events, timeout = [io_event()], timespec(0, 1_000_000)
        assert libaio.io_pgetevents(ctx, 1, 1, events, timeout, {signal.SIGUSR1}) == 0
        assert not calls
        assert libaio.io_pgetevents(ctx, 1, 1, events, timeout, set()) == -errno.EINTR
        assert calls
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGUSR1, previous)


def test_queue_wait_does_not_wait(ctx: io_context_t, pipe: tuple[int, int]) -> None:
    assert libaio.io_queue_wait(ctx, None) == 0
    assert libaio.io_queue_wait(ctx, timespec(30)) == 0
    assert libaio.io_queue_wait(None, None) == -errno.EINVAL


# Callbacks


@pytest.mark.parametrize("function", [libaio.io_poll, libaio.io_fsync, libaio.io_fdsync])
def test_queue_run_calls_back(
    ctx: io_context_t, pipe: tuple[int, int], file_fd: int, function
) -> None:
    calls: list[tuple[object, ...]] = []

    def callback(*arguments: object) -> None:
        calls.append(arguments)

    cb = iocb()
    os.write(pipe[1], b"x")
    if function is libaio.io_poll:
        assert function(ctx, cb, callback, pipe[0], select.POLLIN) == 1
    else:
        assert function(ctx, cb, callback, file_fd) == 1
    # fsync completes in a kernel thread, and io_queue_run does not wait.
    deadline = time.monotonic() + 30
    while not calls and time.monotonic() < deadline:
        assert libaio.io_queue_run(ctx) == 0
    expected = select.POLLIN if function is libaio.io_poll else 0
    assert calls == [(ctx, cb, expected, 0)]
    assert libaio.io_queue_run(ctx) == 0


def test_set_callback_is_data() -> None:
    cb = iocb()
    libaio.io_set_callback(cb, print)
    assert cb.data is print


def test_queue_run_stops_at_an_exception(ctx: io_context_t, pipe: tuple[int, int]) -> None:
    calls = []

    def fail(*_: object) -> None:
        calls.append(1)
        raise LookupError

    os.write(pipe[1], b"x")
    for _ in range(2):
        assert libaio.io_poll(ctx, iocb(), fail, pipe[0], select.POLLIN) == 1
    for _ in range(2):
        with pytest.raises(LookupError):
            libaio.io_queue_run(ctx)
    assert libaio.io_queue_run(ctx) == 0
    assert len(calls) == 2


# Threads


def test_a_context_may_go_from_thread_to_thread(ctx: io_context_t, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    results: list[int] = []
    thread = threading.Thread(
        target=lambda: results.append(libaio.io_submit(ctx, 1, [polled(pipe[0])]))
    )
    thread.start()
    thread.join()
    assert results == [1]
    assert reap_one(ctx).res == select.POLLIN


def test_every_function_of_libaio_is_there() -> None:
    functions = (
        "queue_init queue_release queue_run queue_wait setup destroy submit cancel getevents"
        " pgetevents set_callback prep_pread prep_pwrite prep_preadv prep_pwritev prep_preadv2"
        " prep_pwritev2 prep_poll poll prep_fsync fsync prep_fdsync fdsync set_eventfd"
    )
    for name in functions.split():
        assert callable(getattr(libaio, f"io_{name}"))
        assert f"io_{name}" in libaio.__all__
