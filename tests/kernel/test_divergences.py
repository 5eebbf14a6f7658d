"""Each named difference from today's Linux, shown on both sides."""

import ctypes
import errno
import os
import platform
import select
import signal
import socket
import struct
import threading
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aiopoll import Context, Iocb, probe
from aiopoll.kernel import aio_abi as abi
from aiopoll.kernel.uapi import BADPTR, EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLPRI, EPOLLRDHUP

from .calls import LinuxCalls

pytestmark = pytest.mark.skipif(
    not probe().aio_poll, reason="this kernel has no AIO poll to compare with"
)
NAMES = [
    entry["name"]
    for entry in tomllib.loads(
        (Path(__file__).parent / "divergences.toml").read_text(encoding="utf-8")
    )["divergence"]
]


@pytest.fixture
def linux():
    with Context(16) as context:
        yield context


def poll_here(kernel, fd, events):
    ctx = next(iter(kernel.contexts), None) or kernel.io_setup(8)
    try:
        kernel.io_submit(ctx, 1, [abi.Iocb.poll(fd, events)])
    except OSError as exc:
        return -exc.errno
    return [event.res for event in kernel.io_getevents(ctx, 0, 8)]


def poll_there(linux, fd, events):
    try:
        linux.submit([Iocb.poll(fd, events)])
    except OSError as exc:
        return -exc.errno
    return [event.res for event in linux.getevents(0, 8, 0)]


def test_every_divergence_has_its_test():
    assert {f"test_{name}" for name in NAMES} <= set(globals())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="call numbers are x86-64's")
def test_raw_wake_key(kernel, linux):
    one, two = kernel.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    assert poll_here(kernel, one, EPOLLIN) == []
    kernel.write(two, b"x")
    assert [event.res for event in kernel.io_getevents(next(iter(kernel.contexts)), 1, 1)] == [
        EPOLLIN
    ]
    left, right = socket.socketpair()
    with left, right:
        res = raw_poll(left.fileno(), lambda: right.send(b"x"))
    assert res & EPOLLIN
    assert res & EPOLLPRI


class RawAio:
    """The calls themselves, since Context checks and masks. Call numbers are x86-64's."""

    def __init__(self, nr_events):
        self.call = ctypes.CDLL(None, use_errno=True).syscall
        self.ctx = ctypes.c_ulong()
        assert self.call(206, nr_events, ctypes.byref(self.ctx)) == 0

    def destroy(self):
        assert self.call(207, self.ctx) == 0

    def submit(self, iocbs, copies=1):
        structs = [ctypes.create_string_buffer(iocb) for iocb in iocbs]
        pointers = (ctypes.c_void_p * (len(structs) * copies))(
            *[ctypes.addressof(struct) for struct in structs] * copies
        )
        return self.call(209, self.ctx, ctypes.c_long(len(pointers)), pointers)

    def getevent(self):
        """res of the next event; sleeps until there is one."""
        event = (ctypes.c_int64 * 4)()
        assert self.call(208, self.ctx, ctypes.c_long(1), ctypes.c_long(1), event, None) == 1
        return event[2]


def raw_iocb(opcode, fd, buf=0, nbytes=0):
    return struct.pack("<QIIHhIQQqQII", 0, 0, 0, opcode, 0, fd, buf, nbytes, 0, 0, 0, 0)


def raw_poll(fd, wake):
    """The res that the kernel wrote: Context keeps only the requested bits of it."""
    aio = RawAio(1)
    assert aio.submit([raw_iocb(abi.IOCB_CMD_POLL, fd, EPOLLIN)]) == 1
    wake()
    res = aio.getevent()
    aio.destroy()
    return res


def test_vanished_condition(kernel, linux):
    here = kernel.eventfd2()
    assert poll_here(kernel, here, EPOLLIN) == []
    kernel.write(here, bytes(8))
    ctx = next(iter(kernel.contexts))
    assert kernel.io_getevents(ctx, 0, 1) == []
    there = os.eventfd(0)
    try:
        assert poll_there(linux, there, EPOLLIN) == []
        os.write(there, bytes(8))
        (event,) = linux.getevents(1, 1, None)
        assert event.res == EPOLLIN
        assert select.select([there], [], [], 0)[0] == []
    finally:
        os.close(there)


def test_files_without_poll(kernel, linux):
    assert poll_here(kernel, kernel.open("/dev/null", os.O_RDWR), EPOLLIN) == -errno.EINVAL
    assert poll_here(kernel, kernel.open("/new", os.O_CREAT), EPOLLIN) == -errno.EINVAL
    with open("/dev/null", "rb") as null:
        assert poll_there(linux, null.fileno(), EPOLLIN) == [EPOLLIN]


def test_signalfd(kernel, linux):
    kernel.sigprocmask([signal.SIGUSR1])
    kernel.kill(0, signal.SIGUSR1)
    fd = kernel.signalfd4(-1, [signal.SIGUSR1])
    assert kernel.poll([(fd, EPOLLIN)], 0) == [EPOLLIN]
    assert poll_here(kernel, fd, EPOLLIN) == -errno.EINVAL
    kernel.read(fd, 128)
    libc = ctypes.CDLL(None, use_errno=True)
    mask = (ctypes.c_ulong * 16)(1 << (signal.SIGUSR1 - 1))
    there = libc.signalfd(-1, mask, os.O_NONBLOCK)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        parked = Iocb.poll(there, EPOLLIN)
        linux.submit([parked])
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        assert select.select([there], [], [], 0)[0] == [there]
        assert poll_there(linux, there, EPOLLIN) == [EPOLLIN]
        linux.cancel(parked)
        assert [event.res for event in linux.getevents(1, 1, None)] == [0]
        os.read(there, 128)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(there)


def test_fifo_opened_for_both(kernel, linux, tmp_path):
    kernel.mkfifo("/fifo")
    assert poll_here(kernel, kernel.open("/fifo", os.O_RDWR), EPOLLIN) == []
    os.mkfifo(tmp_path / "fifo")
    fd = os.open(tmp_path / "fifo", os.O_RDWR)
    try:
        assert poll_there(linux, fd, EPOLLIN) == -errno.EINVAL
    finally:
        os.close(fd)


def test_bad_descriptor_and_bad_fields(kernel, linux):
    ctx = kernel.io_setup(1)
    with pytest.raises(OSError, match=r"\[Errno 22\]"):
        kernel.io_submit(ctx, 1, [abi.Iocb(4, 999)])
    with pytest.raises(OSError, match=r"\[Errno 9\]"):
        linux.submit([Iocb(4, 999)])


@pytest.mark.skipif(platform.machine() != "x86_64", reason="call numbers are x86-64's")
def test_bad_array_and_bad_context(kernel):
    with pytest.raises(OSError, match=r"\[Errno 14\]"):
        kernel.io_submit(0, 1, BADPTR)
    call = ctypes.CDLL(None, use_errno=True).syscall
    assert call(209, ctypes.c_ulong(0), ctypes.c_long(1), ctypes.c_void_p(-4096)) == -1
    assert ctypes.get_errno() == errno.EINVAL


@pytest.mark.skipif(platform.machine() != "x86_64", reason="call numbers are x86-64's")
def test_more_requests_than_the_ring_holds(kernel):
    """The reads sleep in io_submit, so another thread can take the events meanwhile."""
    many = 200
    reader, writer = kernel.pipe2()
    ctx = kernel.io_setup(1)

    def feed():
        for _ in range(many):
            kernel.write(writer, b"x")
            assert [event.res for event in kernel.io_getevents(ctx, 1, 1)] == [1]

    task = kernel.spawn(feed)
    assert kernel.io_submit(ctx, many, [abi.Iocb.pread(reader, bytearray(1))] * many) == many
    kernel.join(task)

    aio = RawAio(1)
    there_read, there_write = os.pipe()
    buffer = ctypes.create_string_buffer(1)
    ring_nr = 127
    with ThreadPoolExecutor(1) as pool:
        iocb = raw_iocb(abi.IOCB_CMD_PREAD, there_read, ctypes.addressof(buffer), 1)
        submitted = pool.submit(aio.submit, [iocb], many)
        for _ in range(ring_nr):
            os.write(there_write, b"x")
            assert aio.getevent() == 1
        assert submitted.result(30) == ring_nr
    aio.destroy()
    os.close(there_read)
    os.close(there_write)


def test_later_look(kernel):
    """Here a FIN and the reset after it are two wake-ups, and the first one completes the poll."""
    listener = kernel.socket(socket.AF_INET, socket.SOCK_STREAM)
    kernel.bind(listener, ("127.0.0.1", 0))
    kernel.listen(listener)
    client = kernel.socket(socket.AF_INET, socket.SOCK_STREAM)
    kernel.connect(client, kernel.getsockname(listener))
    server, _ = kernel.accept4(listener)
    assert poll_here(kernel, client, EPOLLRDHUP) == []
    kernel.shutdown(server, socket.SHUT_RDWR)
    kernel.write(client, b"x")
    assert [event.res for event in kernel.io_getevents(next(iter(kernel.contexts)), 0, 2)] == [
        EPOLLRDHUP
    ]
    assert kernel.poll([(client, 0)], 0) == [EPOLLERR | EPOLLHUP]


def test_urgent_data_of_unix_streams(kernel):
    one, two = kernel.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with pytest.raises(OSError, match=rf"\[Errno {errno.EOPNOTSUPP}\]"):
        kernel.sendto(one, b"x", socket.MSG_OOB)
    with pytest.raises(OSError, match=rf"\[Errno {errno.EOPNOTSUPP}\]"):
        kernel.recvfrom(two, 1, socket.MSG_OOB)
    left, right = socket.socketpair()
    with left, right:
        assert left.send(b"x", socket.MSG_OOB) == 1
        assert right.recv(1, socket.MSG_OOB) == b"x"


def test_time_wait(kernel):
    def closed_by_the_client(k):
        listener, client = (k.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(2))
        k.bind(listener, ("127.0.0.1", 0))
        k.listen(listener)
        k.connect(client, k.getsockname(listener))
        server, _ = k.accept4(listener)
        port = k.getsockname(client)[1]
        for fd in (client, server):
            k.close(fd)
        k.bind(k.socket(socket.AF_INET, socket.SOCK_STREAM), ("127.0.0.1", port))

    closed_by_the_client(kernel)
    calls = LinuxCalls(None)
    with pytest.raises(OSError, match=r"\[Errno 98\]"):
        closed_by_the_client(calls)
    calls.halt()


def test_mapped_addresses(kernel):
    def connect_over_ipv4(k):
        listener = k.socket(socket.AF_INET6, socket.SOCK_STREAM)
        k.bind(listener, ("::", 0))
        k.listen(listener)
        k.connect(
            k.socket(socket.AF_INET, socket.SOCK_STREAM), ("127.0.0.1", k.getsockname(listener)[1])
        )

    with pytest.raises(ConnectionRefusedError):
        connect_over_ipv4(kernel)
    calls = LinuxCalls(None)
    connect_over_ipv4(calls)
    calls.halt()


def test_sockets_in_their_own_queues(kernel):
    def poll_the_other_end(k, timeout_ns):
        one, two = k.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        rights = struct.pack("i", two)
        k.sendmsg(one, [b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        k.close(two)
        # A Unix socket that is closed begins the collection.
        for fd in k.socketpair(socket.AF_UNIX, socket.SOCK_STREAM):
            k.close(fd)
        return k.poll([(one, 0)], timeout_ns)

    assert poll_the_other_end(kernel, 0) == [0]
    calls = LinuxCalls(None)
    assert poll_the_other_end(calls, 5_000_000_000)[0] & EPOLLHUP
    calls.halt()


def test_empty_packet_unread(kernel):
    def poll_after_the_close(k):
        one, two = k.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        k.sendto(one, b"")
        k.close(two)
        return k.poll([(one, 0)], 0)

    assert poll_after_the_close(kernel) == [EPOLLERR | EPOLLHUP]
    calls = LinuxCalls(None)
    release = tuple(map(int, platform.release().split(".")[:2]))
    if release >= (6, 18):
        assert poll_after_the_close(calls) == [EPOLLHUP]
    calls.halt()
