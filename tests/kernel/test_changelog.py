"""One test for each rule that the series names in its changelog, V1 to V8.

A test is named after the version that a line led to: "Changes since V1" are v2.  Lines without a
rule have none: small changelog updates, rebases, a double initialization, ACKs, the order of the
patches.  V4 reverts "call ->poll_mask before sleeping" of V3.
"""

import errno
import inspect

import pytest

from aiopoll.kernel import aio, select
from aiopoll.kernel.aio_abi import Iocb
from aiopoll.kernel.char.random import random_fops
from aiopoll.kernel.file import File, FileOperations
from aiopoll.kernel.race import explore
from aiopoll.kernel.select import PollTable, file_can_poll, file_has_poll_mask, vfs_poll
from aiopoll.kernel.uapi import (
    DEFAULT_POLLMASK,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLPRI,
)
from aiopoll.kernel.wait import WaitQueueHead

from .test_races import cancel_against_wake, destroy_against_wake


class Probe:
    """A file whose poll methods are given, and which counts their calls."""

    def __init__(self, kernel, head=None, mask=0, **operations):
        self.calls = []
        self.queue = WaitQueueHead(kernel.sched, "probe")
        self.mask = mask

        def get_poll_head(file, events):
            self.calls.append("get_poll_head")
            return self.queue if head is Probe else head

        def poll_mask(file, events):
            self.calls.append("poll_mask")
            return self.mask

        f_op = FileOperations(
            **{"get_poll_head": get_poll_head, "poll_mask": poll_mask, **operations}
        )
        self.file = File(kernel.sched, f_op, 2, None)
        self.fd = kernel.files.install(self.file)


def submit_poll(kernel, fd, events, nr=1):
    ctx = kernel.io_setup(nr)
    kernel.io_submit(ctx, 1, [Iocb.poll(fd, events)])
    return ctx


def results(kernel, ctx):
    return [event.res for event in kernel.io_getevents(ctx, 0, 8)]


def test_v1_aio_poll_waits_once_for_readiness(kernel):
    reader, writer = kernel.pipe2()
    ctx = submit_poll(kernel, reader, EPOLLIN)
    assert results(kernel, ctx) == []
    kernel.write(writer, b"a")
    kernel.write(writer, b"b")
    assert results(kernel, ctx) == [EPOLLIN]
    assert results(kernel, ctx) == []


def test_v1_get_poll_head_and_poll_mask_are_enough_to_poll(kernel):
    probe = Probe(kernel, head=Probe, mask=EPOLLIN)
    assert file_has_poll_mask(probe.file)
    assert file_can_poll(probe.file)
    assert kernel.poll([(probe.fd, EPOLLIN)], 0) == [EPOLLIN]


def test_v2_a_null_poll_is_handled_in_vfs_poll(kernel):
    probe = Probe(kernel, get_poll_head=None, poll_mask=None)
    assert not file_can_poll(probe.file)
    assert vfs_poll(probe.file, None) == DEFAULT_POLLMASK
    assert kernel.poll([(probe.fd, EPOLLIN | EPOLLOUT)], 0) == [EPOLLIN | EPOLLOUT]


def test_v2_the_socket_operation_takes_no_file():
    from aiopoll.kernel.net.socket import ProtoOps

    parameters = ProtoOps.__annotations__["poll_mask"]
    assert parameters.replace(" ", "") == "Callable[[Any,int],int]|None"
    from aiopoll.kernel.net.unix_sock import unix_poll_mask

    assert list(inspect.signature(unix_poll_mask).parameters) == ["sk", "events"]


def test_v3_random_is_converted():
    assert random_fops.get_poll_head is not None
    assert random_fops.poll_mask is not None
    assert random_fops.poll is None


def test_v3_af_alg_is_converted():
    from aiopoll.kernel.crypto import af_alg

    assert af_alg.algif_ops.poll_mask is not None


def test_v3_file_without_poll_mask_returns_einval(kernel):
    fd = kernel.open("/dev/null", 2)
    with pytest.raises(OSError, match=r"\[Errno 22\]"):
        submit_poll(kernel, fd, EPOLLIN)


def test_v2_sockets_name_their_queue_by_get_poll_head():
    from aiopoll.kernel.net.socket import ProtoOps

    assert "pre_poll" not in ProtoOps.__annotations__
    assert "get_poll_head" in ProtoOps.__annotations__


def test_v3_the_head_is_asked_for_in_one_place():
    for module in (select, aio):
        source = inspect.getsource(module)
        calls = source.count("f_op.get_poll_head(")
        assert calls == (1 if module is select else 0)


def test_v3_get_poll_head_may_return_null(kernel):
    probe = Probe(kernel, head=None)
    table = PollTable(lambda *_: pytest.fail("registered on nothing"))
    assert vfs_poll(probe.file, table) == DEFAULT_POLLMASK
    with pytest.raises(OSError, match=r"\[Errno 22\]"):
        submit_poll(kernel, probe.fd, EPOLLIN)


def test_v4_no_poll_mask_before_the_sleep(kernel):
    probe = Probe(kernel, head=Probe)
    registered = []
    table = PollTable(lambda file, head, pt: registered.append(list(probe.calls)))
    vfs_poll(probe.file, table)
    assert registered == [["get_poll_head"]]
    assert probe.calls == ["get_poll_head", "poll_mask"]


def test_v4_get_poll_head_may_return_a_mask_at_once(kernel):
    probe = Probe(kernel, head=EPOLLIN | EPOLLPRI)
    table = PollTable(lambda *_: pytest.fail("registered although ready"))
    assert vfs_poll(probe.file, table) == EPOLLIN | EPOLLPRI
    ctx = submit_poll(kernel, probe.fd, EPOLLIN)
    assert results(kernel, ctx) == [EPOLLIN]
    assert "poll_mask" not in probe.calls


def test_v4_error_from_get_poll_head_is_pollerr_alone(kernel):
    probe = Probe(kernel, head=OSError(errno.EIO, "gone"))
    assert kernel.poll([(probe.fd, EPOLLIN)], 0) == [0]
    assert kernel.poll([(probe.fd, EPOLLIN)], 5) == [EPOLLERR]
    ctx = submit_poll(kernel, probe.fd, EPOLLIN)
    assert results(kernel, ctx) == [EPOLLERR]


def test_v5_v6_the_base_is_aio_fsync_and_io_pgetevents(kernel):
    fd = kernel.open("/file", 0o102)
    ctx = kernel.io_setup(4)
    assert kernel.io_submit(ctx, 2, [Iocb.fsync(fd), Iocb.fdsync(fd)]) == 2
    assert [event.res for event in kernel.io_pgetevents(ctx, 2, 2, sigmask=[10])] == [0, 0]


def test_v7_cancellation_is_reworked(kernel):
    reader, writer = kernel.pipe2()
    ctx = kernel.io_setup(1)
    iocb = Iocb.poll(reader, EPOLLIN)
    kernel.io_submit(ctx, 1, [iocb])
    assert kernel.io_cancel(ctx, iocb) == -errno.EINPROGRESS
    kernel.write(writer, b"late")
    assert results(kernel, ctx) == [0]
    with pytest.raises(OSError, match=r"\[Errno 22\]"):
        kernel.io_cancel(ctx, iocb)


@pytest.mark.slow
def test_v8_delayed_cancellation_is_safe():
    for scenario in (cancel_against_wake, destroy_against_wake):
        assert explore(scenario, bound=1).failure is None


def test_v8_delayed_cancellation_is_unconditional(kernel):
    """The mark wins over a wake-up that comes before the entry is off the queue."""
    reader, writer = kernel.pipe2()
    ctx_id = kernel.io_setup(1)
    kernel.io_submit(ctx_id, 1, [Iocb.poll(reader, EPOLLIN)])
    ctx = kernel.contexts[ctx_id]
    (req,) = ctx.active_reqs
    with ctx.ctx_lock:
        kernel.aio.claim(req)
    kernel.write(writer, b"x")
    assert results(kernel, ctx_id) == []
    kernel.aio.aio_poll_cancel(req)
    req.put()
    kernel.run_pending()
    assert results(kernel, ctx_id) == [0]


def test_a_keyed_wake_up_is_only_a_hint(kernel):
    probe = Probe(kernel, head=Probe)
    ctx = submit_poll(kernel, probe.fd, EPOLLIN)
    probe.queue.wake_up(EPOLLIN)
    assert results(kernel, ctx) == []
    probe.calls.clear()
    probe.queue.wake_up(EPOLLOUT)
    assert probe.calls == []
    probe.mask = EPOLLIN | EPOLLOUT | EPOLLHUP
    probe.queue.wake_up()
    assert results(kernel, ctx) == [EPOLLIN | EPOLLHUP]
