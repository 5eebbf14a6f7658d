"""One set of operations, and two drivers that carry it out: this kernel, and the Linux underneath.

An operation returns a number (a count, a mask), bytes' length, or -errno. `expected` is the other
side's result.  The real side uses it only to know how long to wait for the network or for a work
item, never for its own result.
"""

import contextlib
import ctypes
import errno
import os
import select
import signal
import socket
import tempfile

from aiopoll import Context
from aiopoll import Iocb as RealIocb
from aiopoll.kernel import Kernel
from aiopoll.kernel.aio_abi import IOCB_FLAG_RESFD, Iocb
from aiopoll.kernel.uapi import EPOLLERR, EPOLLHUP

KINDS = ("pipe", "eventfd", "timerfd", "unix", "dgram", "packets", "tcp", "itself", "udp", "file")
UNIX_TYPES = {
    "unix": socket.SOCK_STREAM,
    "dgram": socket.SOCK_DGRAM,
    "packets": socket.SOCK_SEQPACKET,
}
# Requests that are refused, whatever their descriptor is: (opcode, aio_buf, aio_offset).
REFUSED = ((4, 0, 0), (5, 0x10001, 0), (5, 1, 1), (2, 1, 0), (3, 0, 1), (99, 0, 0))
CLOSED = 99_999
CONTEXTS = 3
PATIENCE_MS = 2000


def answer(function, *arguments):
    """The result of a system call, as the kernel returns it: a number or -errno."""
    try:
        result = function(*arguments)
    except OSError as exc:
        return -exc.errno
    if isinstance(result, (bytes, bytearray)):
        return len(result)
    return result if isinstance(result, int) else 0


class ModelDriver:
    """The in-process kernel."""

    def __init__(self):
        self.kernel = Kernel()
        self.contexts = [self.kernel.io_setup(256) for _ in range(CONTEXTS)]
        self.names = 0
        self.signals = 0
        self.kernel.sigaction(signal.SIGUSR1, self._count)

    def _count(self, signo):
        self.signals += 1

    def make(self, kind):
        kernel = self.kernel
        if kind == "pipe":
            return list(kernel.pipe2(os.O_NONBLOCK))
        if kind == "eventfd":
            return [kernel.eventfd2(0, os.O_NONBLOCK)]
        if kind == "timerfd":
            return [kernel.timerfd_create(flags=os.O_NONBLOCK)]
        if kind == "file":
            self.names += 1
            return [kernel.open(f"/file{self.names}", os.O_RDWR | os.O_CREAT)]
        if kind in UNIX_TYPES:
            return list(kernel.socketpair(socket.AF_UNIX, UNIX_TYPES[kind] | os.O_NONBLOCK))
        if kind == "itself":
            fd = kernel.socket(socket.AF_INET, socket.SOCK_STREAM)
            kernel.bind(fd, ("127.0.0.1", 0))
            kernel.connect(fd, kernel.getsockname(fd))
            kernel.set_blocking(fd, False)
            return [fd]
        if kind == "udp":
            one, two = (
                kernel.socket(socket.AF_INET, socket.SOCK_DGRAM | os.O_NONBLOCK) for _ in range(2)
            )
            kernel.bind(one, ("127.0.0.1", 0))
            kernel.connect(two, kernel.getsockname(one))
            kernel.connect(one, kernel.getsockname(two))
            return [one, two]
        listener = kernel.socket(socket.AF_INET, socket.SOCK_STREAM)
        kernel.bind(listener, ("127.0.0.1", 0))
        kernel.listen(listener)
        client = kernel.socket(socket.AF_INET, socket.SOCK_STREAM)
        kernel.connect(client, kernel.getsockname(listener))
        kernel.set_blocking(client, False)
        server, _ = kernel.accept4(listener, os.O_NONBLOCK)
        kernel.close(listener)
        return [client, server]

    def read(self, fd, count, expected=None):
        return answer(self.kernel.read, fd, count)

    def write(self, fd, data, expected=None):
        return answer(self.kernel.write, fd, data)

    def write_urgent(self, fd, data):
        return answer(self.kernel.sendto, fd, data, socket.MSG_OOB)

    def read_urgent(self, fd, expected=None):
        return answer(lambda: self.kernel.recvfrom(fd, 1, socket.MSG_OOB)[0])

    def close(self, fd):
        return answer(self.kernel.close, fd)

    def shutdown(self, fd, how):
        return answer(self.kernel.shutdown, fd, how)

    def fire_timer(self, fd):
        result = answer(self.kernel.timerfd_settime, fd, 1)
        self.kernel.advance(1)
        return result

    def poll(self, fd, events, expected=None):
        return self.kernel.poll([(fd, events)], 0)[0]

    def submit(self, kind, fd, events, key, context=0, resfd=None):
        iocb = Iocb.poll(fd, events, key) if kind == "poll" else Iocb.fsync(fd, key)
        if resfd is not None:
            iocb.aio_flags, iocb.aio_resfd = IOCB_FLAG_RESFD, resfd
        return iocb, answer(self.kernel.io_submit, self.contexts[context], 1, [iocb])

    def submit_refused(self, opcode, fd, buf, offset, resfd):
        iocb = Iocb(opcode, fd, buf, aio_offset=offset)
        iocb.aio_flags, iocb.aio_resfd = IOCB_FLAG_RESFD, resfd
        return answer(self.kernel.io_submit, self.contexts[0], 1, [iocb])

    def cancel(self, iocb, context=0):
        result = answer(self.kernel.io_cancel, self.contexts[context], iocb)
        return 0 if result == -errno.EINPROGRESS else result

    def reap(self, asked, expected=None, context=0):
        events = self.kernel.io_getevents(self.contexts[context], 0, 256)
        return [(event.data, event.res) for event in events]

    def destroy(self, context):
        """io_destroy, and a new context in its place."""
        self.kernel.io_destroy(self.contexts[context])
        self.contexts[context] = self.kernel.io_setup(256)

    def interrupted_wait(self):
        """A signal that is pending and blocked, unblocked for the time of a wait."""
        self.kernel.sigprocmask([signal.SIGUSR1])
        self.kernel.kill(0, signal.SIGUSR1)
        before = self.signals
        result = answer(lambda: self.kernel.io_pgetevents(self.contexts[0], 1, 1, None, []))
        self.kernel.sigprocmask([])
        return result, self.signals - before

    def finish(self):
        self.kernel.halt()


@contextlib.contextmanager
def borrowed(fd):
    """A socket object for a descriptor that stays open."""
    sock = socket.socket(fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()


class LinuxDriver:
    """The Linux underneath, through Context. The list of contexts outlives the driver."""

    def __init__(self, contexts):
        self.contexts = contexts

    def make(self, kind):
        if kind == "pipe":
            return list(os.pipe2(os.O_NONBLOCK))
        if kind == "eventfd":
            return [_libc.eventfd(0, os.O_NONBLOCK)]
        if kind == "timerfd":
            return [_libc.timerfd_create(1, os.O_NONBLOCK)]
        if kind == "file":
            fd, path = tempfile.mkstemp()
            os.unlink(path)
            return [fd]
        if kind in UNIX_TYPES:
            pair = socket.socketpair(socket.AF_UNIX, UNIX_TYPES[kind])
        elif kind == "itself":
            pair = [socket.socket(socket.AF_INET, socket.SOCK_STREAM)]
            pair[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair[0].bind(("127.0.0.1", 0))
            pair[0].connect(pair[0].getsockname())
        elif kind == "udp":
            pair = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
            pair[0].bind(("127.0.0.1", 0))
            pair[1].connect(pair[0].getsockname())
            pair[0].connect(pair[1].getsockname())
        else:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                client = socket.create_connection(listener.getsockname())
                pair = (client, listener.accept()[0])
            for sock in pair:
                # Nagle's algorithm keeps small segments back, and a reset then loses them.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for sock in pair:
            sock.setblocking(False)
        return [sock.detach() for sock in pair]

    def read(self, fd, count, expected=None):
        result = answer(os.read, fd, count)
        if result == -errno.EAGAIN and expected != result:
            self._wait(fd, select.POLLIN)
            result = answer(os.read, fd, count)
        return result

    def write_urgent(self, fd, data):
        with borrowed(fd) as sock:
            return answer(sock.send, data, socket.MSG_OOB)

    def read_urgent(self, fd, expected=None):
        if expected is not None and expected >= 0:
            self._wait(fd, select.POLLPRI)
        with borrowed(fd) as sock:
            return answer(sock.recv, 1, socket.MSG_OOB)

    @staticmethod
    def _wait(fd, events):
        poller = select.poll()
        poller.register(fd, events)
        return poller.poll(PATIENCE_MS)

    def write(self, fd, data, expected=None):
        if expected == -errno.ECONNREFUSED:
            # The reply to the datagram before may still be on its way, in UDP.
            with borrowed(fd) as sock:
                if sock.family == socket.AF_INET:
                    self._wait(fd, 0)
        return answer(os.write, fd, data)

    def close(self, fd):
        return answer(os.close, fd)

    def shutdown(self, fd, how):
        with borrowed(fd) as sock:
            return answer(sock.shutdown, how)

    def fire_timer(self, fd):
        result = _libc.timerfd_settime(fd, 1)
        if result == 0:
            self._wait(fd, select.POLLIN)
        return result

    def poll(self, fd, events, expected=None):
        poller = select.poll()
        poller.register(fd, events)
        found = dict(poller.poll(0)).get(fd, 0)
        if found != expected and expected:
            # Data sent over the network may still be on its way.
            self._wait(fd, expected & ~found & (events | EPOLLERR | EPOLLHUP))
            found = dict(poller.poll(0)).get(fd, 0)
        return found

    def submit_refused(self, opcode, fd, buf, offset, resfd):
        iocb = RealIocb(opcode, fd, buf, offset=offset, resfd=resfd)
        return answer(self.contexts[0].submit, [iocb])

    def submit(self, kind, fd, events, key, context=0, resfd=None):
        if kind == "poll":
            iocb = RealIocb.poll(fd, events, data=key, resfd=resfd)
        else:
            iocb = RealIocb.fsync(fd, data=key)
        return iocb, answer(self.contexts[context].submit, [iocb])

    def cancel(self, iocb, context=0):
        try:
            return answer(self.contexts[context].cancel, iocb)
        except ValueError:
            # Context knows that the event was reaped, and does not ask the kernel.
            return -errno.EINVAL

    def reap(self, asked, expected=None, context=0):
        wanted = len(expected or ())
        events = self.contexts[context].getevents(wanted, 256, PATIENCE_MS * 1_000_000)
        # Today's kernel returns the whole key of a keyed wake-up: Context keeps the requested bits.
        return [(event.data, event.res) for event in events]

    def destroy(self, context):
        self.contexts[context].close()
        self.contexts[context] = Context(256)

    def interrupted_wait(self):
        calls = []
        before = signal.signal(signal.SIGUSR1, lambda *_: calls.append(1))
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            result = answer(lambda: self.contexts[0].getevents(1, 1, None, ()))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            signal.signal(signal.SIGUSR1, before)
        return result, len(calls)

    def finish(self):
        pass


class _Libc:
    """eventfd and timerfd, which Python 3.11 has only half of."""

    def __init__(self):
        self._libc = ctypes.CDLL(None, use_errno=True)

    def _call(self, name, *arguments):
        result = getattr(self._libc, name)(*arguments)
        return -ctypes.get_errno() if result < 0 else result

    def eventfd(self, initval, flags):
        return os.eventfd(initval, flags)

    def timerfd_create(self, clock, flags):
        return self._call("timerfd_create", clock, flags)

    def timerfd_settime(self, fd, value_ns):
        spec = (ctypes.c_long * 4)(0, 0, 0, value_ns)
        return self._call("timerfd_settime", fd, 0, spec, None)


_libc = _Libc()
