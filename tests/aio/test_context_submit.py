"""Context.submit: every operation and flag, batches, and the kernel's refusals."""

import errno
import mmap
import os
import pickle
import select
import socket

import pytest
from tests.support.kernel import nowait_errno_of_an_empty_pipe

from aiopoll import Context, Iocb, SubmitError
from aiopoll.libaio import IO_CMD_POLL, IO_CMD_PREAD


def run_one(context: Context, iocb: Iocb) -> int:
    """Submits one request and returns its raw result."""
    assert context.submit([iocb]) == 1
    (event,) = context.reap()
    assert event.obj is iocb
    assert event.res2 == 0
    return event.res


def outcome(context: Context, iocb: Iocb) -> int:
    """The raw result, or the -errno with which submit refused the request."""
    try:
        return run_one(context, iocb)
    except SubmitError as error:
        return -(error.errno or 0)


def test_pread_reads_from_the_offset(context, plain_file):
    buffer = bytearray(4)
    assert run_one(context, Iocb.pread(plain_file, buffer, 3)) == 4
    assert buffer == b"3456"


def test_pread_at_the_end_returns_the_rest(context, plain_file):
    assert run_one(context, Iocb.pread(plain_file, bytearray(4), 8)) == 2
    assert run_one(context, Iocb.pread(plain_file, bytearray(4), 10)) == 0


def test_pwrite_writes_at_the_offset(context, plain_file):
    assert run_one(context, Iocb.pwrite(plain_file, b"ab", 8)) == 2
    assert os.pread(plain_file, 20, 0) == b"01234567ab"


def test_preadv_fills_the_buffers_in_order(context, plain_file):
    buffers = [bytearray(1), bytearray(0), bytearray(5)]
    assert run_one(context, Iocb.preadv(plain_file, buffers, 2)) == 6
    assert b"|".join(buffers) == b"2||34567"


def test_pwritev_writes_the_buffers_in_order(context, plain_file):
    parts = [b"a", bytearray(b"bc"), memoryview(b"d")]
    assert run_one(context, Iocb.pwritev(plain_file, parts, 1)) == 4
    assert os.pread(plain_file, 20, 0) == b"0abcd56789"


def test_vectors_may_be_empty(context, plain_file):
    assert run_one(context, Iocb.preadv(plain_file, [])) == 0
    assert run_one(context, Iocb.pwritev(plain_file, [])) == 0


def test_a_vector_longer_than_iov_max_is_refused(context, plain_file):
    with pytest.raises(SubmitError) as caught:
        context.submit([Iocb.pwritev(plain_file, [b"x"] * 1025)])
    assert caught.value.errno == errno.EINVAL
    assert context.statistics().in_flight == 0


def test_fsync_and_fdsync_return_zero(context, plain_file):
    assert run_one(context, Iocb.fsync(plain_file)) == 0
    assert run_one(context, Iocb.fdsync(plain_file)) == 0


def test_fsync_of_a_file_without_fsync_is_refused(context, eventfd):
    with pytest.raises(SubmitError) as caught:
        context.submit([Iocb.fsync(eventfd)])
    assert caught.value.errno == errno.EINVAL


def test_direct_reads_and_writes_complete(context, tmp_path):
    try:
        fd = os.open(tmp_path / "direct", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    except OSError:  # a filesystem without O_DIRECT: nothing to show here
        return
    with mmap.mmap(-1, 4096) as page:
        page[:] = b"d" * 4096
        assert run_one(context, Iocb.pwrite(fd, page)) == 4096
        page[:] = bytes(4096)
        assert run_one(context, Iocb.pread(fd, page)) == 4096
        assert page[:] == b"d" * 4096
    os.close(fd)


def test_poll_of_a_ready_file_completes_within_submit(context, eventfd):
    context.submit([Iocb.poll(eventfd, select.POLLIN | select.POLLOUT)])
    (event,) = context.reap(0)
    assert event.res == select.POLLOUT


def test_poll_of_a_pipe_waits_for_data(context, pipe):
    reader, writer = pipe
    context.submit([Iocb.poll(reader, select.POLLIN)])
    assert context.reap(0) == []
    os.write(writer, b"x")
    assert [event.res for event in context.reap()] == [select.POLLIN]


def test_poll_of_a_full_pipe_waits_for_room(context, pipe):
    reader, writer = pipe
    filled = 0
    while True:
        try:
            filled += os.write(writer, bytes(65536))
        except BlockingIOError:
            break
    context.submit([Iocb.poll(writer, select.POLLOUT)])
    assert context.reap(0) == []
    while filled:
        filled -= len(os.read(reader, filled))
    assert [event.res for event in context.reap()] == [select.POLLOUT]


def test_poll_for_no_event_still_reports_the_hangup(context, pipe):
    reader, writer = pipe
    context.submit([Iocb.poll(reader, 0, data="reader")])
    os.close(writer)
    assert [event.res for event in context.reap()] == [select.POLLHUP]


def test_poll_of_a_writer_without_reader_reports_error(context, pipe):
    reader, writer = pipe
    context.submit([Iocb.poll(writer, 0)])
    os.close(reader)
    assert [event.res for event in context.reap()] == [select.POLLERR]


@pytest.mark.parametrize("asked", [select.POLLIN, select.POLLIN | select.POLLPRI])
def test_plain_data_on_a_unix_socket_is_input_alone(context, asked):
    left, right = socket.socketpair()
    with left, right:
        context.submit([Iocb.poll(left, asked)])
        right.send(b"x")
        assert [event.res for event in context.reap()] == [select.POLLIN]


@pytest.mark.parametrize("when", ["before", "after"])
def test_plain_data_on_tcp_is_never_priority(context, tcp_pair, when):
    left, right = tcp_pair
    iocb = Iocb.poll(left, select.POLLIN | select.POLLPRI)
    if when == "before":
        right.send(b"x")
        select.select([left], [], [])
    context.submit([iocb])
    if when == "after":
        right.send(b"x")
    assert [event.res for event in context.reap()] == [select.POLLIN]


def test_poll_for_pollpri_alone_ignores_plain_data(context, tcp_pair):
    left, right = tcp_pair
    context.submit([Iocb.poll(left, select.POLLPRI)])
    right.send(b"x")
    # The kernel always wakes with PRI set; here it is false, so no event bit is left.
    assert [event.res for event in context.reap()] == [0]


@pytest.mark.parametrize("when", ["before", "after"])
def test_out_of_band_data_on_tcp_is_priority(context, tcp_pair, when):
    left, right = tcp_pair
    iocb = Iocb.poll(left, select.POLLPRI)
    if when == "before":
        right.send(b"!", socket.MSG_OOB)
        select.select([], [], [left])
    context.submit([iocb])
    if when == "after":
        right.send(b"!", socket.MSG_OOB)
    assert [event.res for event in context.reap()] == [select.POLLPRI]


def test_end_of_stream_is_reported_as_requested(context):
    left, right = socket.socketpair()
    with left:
        context.submit([Iocb.poll(left, select.POLLIN | select.POLLRDHUP)])
        right.close()
        (event,) = context.reap()
        assert event.res == select.POLLIN | select.POLLRDHUP | select.POLLHUP


def test_nowait_on_an_empty_pipe_is_as_in_preadv2(context):
    expected = nowait_errno_of_an_empty_pipe()
    reader, writer = os.pipe()  # blocking: without NOWAIT the submit would block
    iocb = Iocb.pread(reader, bytearray(1), rw_flags=os.RWF_NOWAIT)
    assert outcome(context, iocb) == -expected
    os.write(writer, b"x")
    assert outcome(context, iocb) == (1 if expected == errno.EAGAIN else -errno.EOPNOTSUPP)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("flags", [os.RWF_DSYNC, os.RWF_SYNC])
def test_synchronous_writes_are_taken(context, plain_file, flags):
    assert run_one(context, Iocb.pwrite(plain_file, b"ab", rw_flags=flags)) == 2


def test_append_ignores_the_offset(context, plain_file):
    assert run_one(context, Iocb.pwrite(plain_file, b"end", 0, rw_flags=os.RWF_APPEND)) == 3
    assert os.pread(plain_file, 20, 0) == b"0123456789end"


def test_hipri_is_done_or_refused_as_not_supported(context, plain_file):
    # Buffered files ignore the hint; a driver without polled I/O may refuse it.
    iocb = Iocb.pread(plain_file, bytearray(4), rw_flags=os.RWF_HIPRI)
    assert outcome(context, iocb) in (4, -errno.EOPNOTSUPP)


def test_unknown_rw_flags_are_refused(context, plain_file):
    with pytest.raises(SubmitError, match="rw_flags") as caught:
        context.submit([Iocb.pread(plain_file, bytearray(4), rw_flags=1 << 30)])
    assert caught.value.errno == errno.EOPNOTSUPP


def test_resfd_is_signalled_once_a_request(context, eventfd, plain_file, pipe):
    context.submit(
        [
            Iocb.pread(plain_file, bytearray(4), resfd=eventfd),
            Iocb.poll(pipe[1], select.POLLOUT, resfd=eventfd),
            Iocb.poll(pipe[0], select.POLLIN, resfd=eventfd),
        ]
    )
    context.reap(2)
    assert os.eventfd_read(eventfd) == 2
    os.write(pipe[1], b"x")
    context.reap()
    assert os.eventfd_read(eventfd) == 1


@pytest.mark.parametrize("kind", ["closed", "pipe"])
def test_a_resfd_that_is_no_eventfd_is_refused(context, plain_file, pipe, kind):
    resfd = pipe[0] if kind == "pipe" else 2**31 - 1
    with pytest.raises(SubmitError, match="resfd") as caught:
        context.submit([Iocb.pread(plain_file, bytearray(4), resfd=resfd)])
    assert caught.value.errno == (errno.EINVAL if kind == "pipe" else errno.EBADF)
    assert context.statistics().in_flight == 0


def test_a_priority_of_the_best_effort_class_is_taken(context, plain_file):
    assert run_one(context, Iocb.pread(plain_file, bytearray(4), ioprio=2 << 13 | 7)) == 4


def test_an_invalid_priority_is_refused(context, plain_file):
    with pytest.raises(SubmitError) as caught:
        context.submit([Iocb.pread(plain_file, bytearray(4), ioprio=-1)])
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("opcode", [4, 6, 9, 0xFFFF])
def test_operations_the_kernel_has_not_are_refused(context, plain_file, opcode):
    with pytest.raises(SubmitError) as caught:
        context.submit([Iocb(opcode, plain_file)])
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    "fields", [{"buf": 0x10000}, {"offset": 1}, {"nbytes": 1}, {"rw_flags": os.RWF_NOWAIT}]
)
def test_raw_poll_with_a_nonzero_reserved_field_is_refused(context, pipe, fields):
    with pytest.raises(SubmitError, match="polled") as caught:
        context.submit([Iocb(IO_CMD_POLL, pipe[0], **fields)])
    assert caught.value.errno == errno.EINVAL


def test_files_that_poll_refuses_are_named(context, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    fd = os.open(tmp_path / "fifo", os.O_RDWR | os.O_NONBLOCK)
    try:
        with pytest.raises(SubmitError, match=f"POLL fd={fd} .*FIFO opened O_RDWR"):
            context.submit([Iocb.poll(fd, select.POLLIN)])
    finally:
        os.close(fd)


def test_one_submit_is_one_system_call(context, plain_file):
    batch = [Iocb.pread(plain_file, bytearray(1), offset) for offset in range(10)]
    assert context.submit(batch) == 10
    statistics = context.statistics()
    assert (statistics.submit_calls, statistics.submitted, statistics.in_flight) == (1, 10, 10)
    assert [bytes(event.obj.buf) for event in context.reap(10)] == [b"%d" % n for n in range(10)]


def test_an_empty_batch_makes_no_system_call(context):
    assert context.submit([]) == 0
    assert context.submit(iter(())) == 0
    assert context.statistics().submit_calls == 0


def test_any_iterable_is_a_batch(context, eventfd):
    iocb = Iocb.poll(eventfd, select.POLLOUT)
    assert context.submit(iocb for _ in range(3)) == 3
    assert context.submit({iocb}) == 1
    assert len(context.reap(4)) == 4


def test_the_same_iocb_twice_in_a_batch_is_two_requests(context, pipe):
    iocb = Iocb.poll(pipe[0], select.POLLIN, data="twice")
    assert context.submit([iocb, iocb]) == 2
    assert context.statistics().in_flight == 2
    os.write(pipe[1], b"x")
    events = context.reap(2)
    assert [(event.obj, event.data, event.res) for event in events] == [(iocb, "twice", 1)] * 2


def test_an_iocb_can_be_in_flight_in_two_contexts(context, pipe):
    iocb = Iocb.poll(pipe[0], select.POLLIN)
    with Context(4) as other:
        context.submit([iocb])
        other.submit([iocb])
        context.cancel(iocb)
        assert [event.res for event in context.reap()] == [0]
        os.write(pipe[1], b"x")
        assert [event.res for event in other.reap()] == [select.POLLIN]


def test_an_iocb_dropped_in_flight_still_completes(context, pipe):
    context.submit([Iocb.poll(pipe[0], select.POLLIN, data=object())])
    os.write(pipe[1], b"x")
    (event,) = context.reap()
    assert event.obj.fd == pipe[0]


def test_a_bad_request_stops_the_batch_at_its_index(context, eventfd):
    good = Iocb.poll(eventfd, select.POLLOUT)
    bad = Iocb.poll(2**31 - 1, select.POLLIN)
    with pytest.raises(SubmitError, match="index 2 of 4") as caught:
        context.submit([good, good, bad, good])
    assert (caught.value.index, caught.value.errno) == (2, errno.EBADF)
    statistics = context.statistics()
    assert (statistics.in_flight, statistics.submitted, statistics.refused) == (2, 2, 1)
    # The kernel returns a short count at a bad one that is not the first: one call more gets its
    # errno.
    assert statistics.submit_calls == 2
    assert len(context.reap(2)) == 2


def test_a_bad_first_request_takes_nothing(context, eventfd):
    bad = Iocb.poll(2**31 - 1, select.POLLIN)
    with pytest.raises(SubmitError) as caught:
        context.submit([bad, Iocb.poll(eventfd, select.POLLOUT)])
    assert caught.value.index == 0
    statistics = context.statistics()
    assert (statistics.in_flight, statistics.submit_calls) == (0, 1)


def test_the_rest_after_a_refusal_can_be_submitted(context, eventfd):
    good = Iocb.poll(eventfd, select.POLLOUT)
    batch = [good, Iocb.poll(2**31 - 1, 1), good, good]
    with pytest.raises(SubmitError) as caught:
        context.submit(batch)
    assert context.submit(batch[caught.value.index + 1 :]) == 2
    assert len(context.reap(3)) == 3


def test_batch_beyond_the_free_slots_raises_eagain_there(user_ring, pipe):
    with Context(1, user_ring=user_ring) as context:
        iocb = Iocb.poll(pipe[0], select.POLLIN)
        with pytest.raises(SubmitError, match="no free slot") as caught:
            context.submit([iocb] * 1000)
        taken = caught.value.index
        assert caught.value.errno == errno.EAGAIN
        assert context.statistics().in_flight == taken >= 1
        os.write(pipe[1], b"x")
        assert len(context.reap(taken)) == taken
        assert context.submit([iocb]) == 1  # the slots are free again


def test_a_batch_beyond_the_ring_resumes_where_it_stopped(user_ring, eventfd):
    with Context(1, user_ring=user_ring) as context, pytest.raises(SubmitError) as caught:
        context.submit([Iocb.poll(eventfd, select.POLLOUT)] * 100_000)
    assert caught.value.errno == errno.EAGAIN


def test_a_submit_error_survives_pickling(context):
    with pytest.raises(SubmitError) as caught:
        context.submit([Iocb.poll(2**31 - 1, 1)])
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.index, copy.errno, str(copy)) == (0, errno.EBADF, str(caught.value))


def test_a_descriptor_closed_before_submit_is_refused(context):
    reader, writer = os.pipe()
    iocb = Iocb.poll(reader, select.POLLIN)
    os.close(reader)
    os.close(writer)
    with pytest.raises(SubmitError, match="not open") as caught:
        context.submit([iocb])
    assert caught.value.errno == errno.EBADF


def test_a_file_open_the_wrong_way_is_refused(context, pipe, tmp_path):
    with pytest.raises(SubmitError) as caught:
        context.submit([Iocb.pread(pipe[1], bytearray(1))])
    assert caught.value.errno == errno.EBADF
    path = os.open(tmp_path, os.O_PATH)
    try:
        with pytest.raises(SubmitError) as caught:
            context.submit([Iocb.poll(path, 1)])
        assert caught.value.errno == errno.EBADF
    finally:
        os.close(path)


def test_raw_iocb_with_a_negative_offset_is_refused(context, plain_file):
    with pytest.raises(SubmitError) as caught:
        context.submit([Iocb(IO_CMD_PREAD, plain_file, bytearray(1), offset=-1)])
    assert caught.value.errno == errno.EINVAL


def test_memory_without_access_fails_the_request_as_efault(context, plain_file):
    # The filesystem decides where EFAULT appears: in the event or at submit.
    with mmap.mmap(-1, 4096, prot=0) as nothing:
        assert outcome(context, Iocb.pwrite(plain_file, nothing)) == -errno.EFAULT


def test_write_to_a_pipe_without_readers_is_only_epipe(context, pipe):
    os.close(pipe[0])
    assert run_one(context, Iocb.pwrite(pipe[1], b"x")) == -errno.EPIPE


def test_the_file_stays_open_while_a_poll_is_parked(context):
    reader, writer = os.pipe2(os.O_NONBLOCK)
    iocb = Iocb.poll(reader, select.POLLIN)
    context.submit([iocb])
    os.close(reader)
    assert os.write(writer, b"x") == 1  # no EPIPE: the request holds the reading end
    assert [event.res for event in context.reap()] == [select.POLLIN]
    # The last reference may be dropped after the event is seen, so wait for the hangup.
    poller = select.poll()
    poller.register(writer, 0)
    assert poller.poll(10_000)
    os.close(writer)
