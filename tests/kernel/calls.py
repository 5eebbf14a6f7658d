"""The Linux underneath, with the names, arguments and results of the in-process kernel's calls."""

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import sys
import termios
import time

import pytest

from aiopoll.kernel.uapi import BadAddress

from .calls_files import LinuxFileCalls

needs_x86_64 = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="call numbers are x86-64's"
)
PATIENCE_S = 2
BAD = 1 << 62
# open adds it on 64-bit machines.
O_LARGEFILE = 0o100000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
NR_SIGNALFD4, NR_EVENTFD2 = 289, 290
NR_IO_SETUP, NR_IO_DESTROY, NR_IO_GETEVENTS, NR_IO_SUBMIT, NR_IO_CANCEL = range(206, 211)


def check(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def call(number, *arguments):
    return check(_libc.syscall(ctypes.c_long(number), *arguments))


class PollFd(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_ushort), ("revents", ctypes.c_ushort))


class EpollEvent(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"  # what _pack_ implies, asked for by name from 3.15 on
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


class Event:
    """struct io_event; the address in it is not the other kernel's object."""

    def __init__(self, data, obj, res, res2):
        self.data, self.res, self.res2 = data, res, res2


def milliseconds(timeout_ns):
    return -1 if timeout_ns is None else -(-timeout_ns // 1_000_000)


class LinuxCalls(LinuxFileCalls):
    """Descriptors are Linux's own. `directory` is where a path of the other kernel lies here."""

    def __init__(self, directory):
        self.directory = directory
        self.fds = set()
        self.contexts = set()
        self.structs = {}
        self.memory = []
        self.handlers = {}

    def halt(self):
        for ctx in list(self.contexts):
            self.io_destroy(ctx)
        for fd in list(self.fds):
            self.close(fd)
        for signo, handler in self.handlers.items():
            signal.signal(signo, handler)

    def _new(self, fd):
        self.fds.add(fd)
        return fd

    # Files

    read = staticmethod(os.read)
    write = staticmethod(os.write)
    pread = staticmethod(os.pread)
    pwrite = staticmethod(os.pwrite)

    def pwritev2(self, fd, data, offset, flags=0):
        return os.pwritev(fd, [data], offset, flags)

    fsync = staticmethod(os.fsync)
    ftruncate = staticmethod(os.ftruncate)
    splice = staticmethod(os.splice)
    set_blocking = staticmethod(os.set_blocking)

    def lseek(self, fd, offset, whence=os.SEEK_SET):
        return os.lseek(fd, offset, whence)

    def close(self, fd):
        self.fds.discard(fd)
        os.close(fd)

    def dup(self, fd):
        return self._new(os.dup(fd))

    def dup2(self, fd, new):
        return self._new(os.dup2(fd, new))

    def fcntl(self, fd, cmd, arg=0):
        result = fcntl.fcntl(fd, cmd, arg)
        if cmd in (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC):
            self._new(result)
        return result & ~O_LARGEFILE if cmd == fcntl.F_GETFL else result

    def ioctl(self, fd, request, arg=0):
        value = ctypes.c_int(arg)
        check(_libc.ioctl(fd, ctypes.c_ulong(request), ctypes.byref(value)))
        return value.value if request == termios.FIONREAD else 0

    def pipe2(self, flags=0):
        ends = (ctypes.c_int * 2)()
        check(_libc.pipe2(ends, flags))
        return tuple(map(self._new, ends))

    def eventfd2(self, initval=0, flags=0):
        return self._new(call(NR_EVENTFD2, ctypes.c_uint(initval & 0xFFFFFFFF), flags))

    # Time and signals

    def advance(self, duration_ns):
        time.sleep(duration_ns / 1e9)

    def timerfd_create(self, clockid=time.CLOCK_MONOTONIC, flags=0):
        return self._new(check(_libc.timerfd_create(clockid, flags)))

    def timerfd_settime(self, fd, value_ns, interval_ns=0, flags=0):
        new = (ctypes.c_long * 4)(*divmod(interval_ns, 10**9), *divmod(value_ns, 10**9))
        old = (ctypes.c_long * 4)()
        check(_libc.timerfd_settime(fd, flags, new, old))
        return old[2] * 10**9 + old[3], old[0] * 10**9 + old[1]

    def signalfd4(self, fd, mask, flags=0):
        bits = ctypes.c_uint64(sum(1 << (signo - 1) for signo in mask))
        return self._new(call(NR_SIGNALFD4, fd, ctypes.byref(bits), ctypes.c_long(8), flags))

    def sigaction(self, signo, handler):
        before = signal.signal(signo, lambda signo, _: handler(signo))
        self.handlers.setdefault(signo, before)

    # poll and epoll

    def poll(self, fds, timeout_ns=None):
        array = (PollFd * len(fds))(*[PollFd(fd, events & 0xFFFF) for fd, events in fds])
        check(_libc.poll(array, len(fds), milliseconds(timeout_ns)))
        return [entry.revents for entry in array]

    def select(self, readers, writers, exceptional, timeout_ns=None):
        return select.select(readers, writers, exceptional, milliseconds(timeout_ns) / 1000)

    def epoll_create1(self, flags=0):
        return self._new(check(_libc.epoll_create1(flags)))

    def epoll_ctl(self, epfd, op, fd, events=0, data=-1):
        event = EpollEvent(events & 0xFFFFFFFF, fd if data == -1 else data)
        check(_libc.epoll_ctl(epfd, op, fd, ctypes.byref(event)))

    def epoll_wait(self, epfd, maxevents, timeout_ns=None):
        array = (EpollEvent * max(maxevents, 1))()
        count = check(_libc.epoll_wait(epfd, array, maxevents, milliseconds(timeout_ns)))
        return [(event.data, event.events) for event in array[:count]]

    # Sockets

    @contextlib.contextmanager
    def _sock(self, fd):
        """A socket object for a descriptor that stays open, in the mode that the file has."""
        blocking = os.get_blocking(fd)
        sock = socket.socket(fileno=os.dup(fd))
        try:
            sock.settimeout(None if blocking else 0)
            yield sock
        finally:
            sock.close()

    def socket(self, family, kind, protocol=0):
        return self._new(check(_libc.socket(family, kind, protocol)))

    def socketpair(self, family, kind, protocol=0):
        pair = (ctypes.c_int * 2)()
        check(_libc.socketpair(family, kind, protocol, pair))
        return tuple(map(self._new, pair))

    def bind(self, fd, address):
        with self._sock(fd) as sock:
            sock.bind(self._address(sock, address))

    def _address(self, sock, address):
        named = sock.family == socket.AF_UNIX and address[:1] == "/"
        return self._path(address) if named else address

    def listen(self, fd, backlog=128):
        check(_libc.listen(fd, backlog))

    def accept4(self, fd, flags=0):
        with self._sock(fd) as sock:
            # From the address that accept gives, and not by getpeername: that asks for a
            # connection.
            new, address = sock._accept()
        os.set_blocking(new, not flags & os.O_NONBLOCK)
        return self._new(new), address

    def connect(self, fd, address):
        if address is None:
            check(_libc.connect(fd, bytes(16), 16))
            return
        with self._sock(fd) as sock:
            sock.connect(self._address(sock, address))

    def getsockname(self, fd):
        with self._sock(fd) as sock:
            return sock.getsockname()

    def getpeername(self, fd):
        with self._sock(fd) as sock:
            return sock.getpeername()

    def sendto(self, fd, data, flags=0, address=None):
        with self._sock(fd) as sock:
            if address is None:
                return sock.send(data, flags)
            return sock.sendto(data, flags, self._address(sock, address))

    def recvfrom(self, fd, count, flags=0):
        with self._sock(fd) as sock:
            return sock.recvfrom(count, flags)

    def sendmsg(self, fd, buffers, ancdata=(), flags=0, address=None):
        with self._sock(fd) as sock:
            name = None if address is None else self._address(sock, address)
            return sock.sendmsg(buffers, ancdata, flags, name)

    def recvmsg(self, fd, count, ancbufsize=0, flags=0):
        with self._sock(fd) as sock:
            data, control, msg_flags, address = sock.recvmsg(count, ancbufsize, flags)
        for _, _, rights in control:
            self.fds.update(struct.unpack(f"{len(rights) // 4}i", rights))
        return data, control, msg_flags & ~socket.MSG_CMSG_CLOEXEC, address

    def shutdown(self, fd, how):
        check(_libc.shutdown(fd, how))

    def setsockopt(self, fd, level, option, value):
        with self._sock(fd) as sock:
            sock.setsockopt(
                level, option, struct.pack("ll", *value) if isinstance(value, tuple) else value
            )

    def getsockopt(self, fd, level, option):
        with self._sock(fd) as sock:
            return sock.getsockopt(level, option)

    # AIO

    def io_setup(self, nr_events, ctxp=0):
        ctx = ctypes.c_ulong(ctxp or 0)
        pointer = None if ctxp is None else ctypes.byref(ctx)
        call(NR_IO_SETUP, ctypes.c_uint(nr_events & 0xFFFFFFFF), pointer)
        self.contexts.add(ctx.value)
        return ctx.value

    def io_destroy(self, ctx):
        call(NR_IO_DESTROY, ctypes.c_ulong(ctx))
        self.contexts.discard(ctx)

    def _address_of(self, memory):
        if isinstance(memory, BadAddress):
            return BAD
        if isinstance(memory, list):
            parts = [(self._address_of(part), len(part)) for part in memory]
            array = (ctypes.c_ulong * max(2 * len(parts), 1))(*[n for part in parts for n in part])
        elif isinstance(memory, bytearray):
            array = (ctypes.c_char * len(memory)).from_buffer(memory)
        else:
            array = ctypes.create_string_buffer(bytes(memory), max(len(memory), 1))
        self.memory.append(array)
        return ctypes.addressof(array)

    def _struct(self, iocb):
        """The address of this side's copy of the other kernel's iocb: the same for the same one."""
        if iocb is None:
            return 0
        if isinstance(iocb, BadAddress):
            return BAD
        raw = self.structs.setdefault(iocb, ctypes.create_string_buffer(64))
        raw.raw = struct.pack(
            "<QIIHhIQQqQII",
            iocb.aio_data,
            iocb.aio_key,
            iocb.aio_rw_flags,
            iocb.aio_lio_opcode,
            iocb.aio_reqprio,
            iocb.aio_fildes & 0xFFFFFFFF,
            iocb.aio_buf if iocb.memory is None else self._address_of(iocb.memory),
            iocb.aio_nbytes,
            iocb.aio_offset,
            iocb.aio_reserved2,
            iocb.aio_flags,
            iocb.aio_resfd & 0xFFFFFFFF,
        )
        return ctypes.addressof(raw)

    def io_submit(self, ctx, nr, iocbpp):
        array = None
        if iocbpp is not None:
            array = (ctypes.c_ulong * max(len(iocbpp), 1))(*map(self._struct, iocbpp))
        try:
            return call(NR_IO_SUBMIT, ctypes.c_ulong(ctx), ctypes.c_long(nr), array)
        finally:
            for iocb in iocbpp or ():
                if iocb in self.structs:
                    (iocb.aio_key,) = struct.unpack_from("<I", self.structs[iocb].raw, 8)

    def io_cancel(self, ctx, iocb):
        raw = self.structs.get(iocb)
        address = ctypes.addressof(raw) if raw is not None else self._struct(iocb)
        event = (ctypes.c_long * 4)()
        try:
            return call(NR_IO_CANCEL, ctypes.c_ulong(ctx), ctypes.c_void_p(address), event)
        except BlockingIOError as exc:
            # EINPROGRESS, which the other kernel returns and does not raise.
            return -exc.errno

    def io_getevents(self, ctx, min_nr, nr, timeout_ns=None, events=None):
        array = (ctypes.c_long * 4 * max(nr, 1))()
        timeout = None
        if isinstance(timeout_ns, BadAddress):
            timeout = ctypes.c_void_p(BAD)
        elif timeout_ns is not None:
            timeout = ctypes.byref((ctypes.c_long * 2)(*divmod(timeout_ns, 10**9)))
        memory = array if events is None else ctypes.c_void_p(BAD)
        count = call(
            NR_IO_GETEVENTS,
            ctypes.c_ulong(ctx),
            ctypes.c_long(min_nr),
            ctypes.c_long(nr),
            memory,
            timeout,
        )
        return [Event(*event) for event in array[:count]]


class Run:
    """One side of a scenario: the results of its calls, each with the line that it comes from.

    `expected` is the trace of the other side, by which `look` knows how long to wait for the
    network.
    """

    def __init__(self, kernel, expected=()):
        self.kernel = kernel
        self.expected = expected
        self.trace = []

    def __call__(self, function, *arguments):
        try:
            answer = function(*arguments)
        except OSError as exc:
            answer = errno.errorcode[exc.errno]
        self.note(function.__name__, answer)
        return answer

    def note(self, what, answer):
        self.trace.append((sys._getframe(2).f_lineno, what, answer))

    def look(self, *fds):
        """The readiness of each file, for every event."""
        for fd in fds:
            mask = self.kernel.poll([(fd, 0x7FFF)], 0)[0]
            if len(self.expected) > len(self.trace):
                expected = int(self.expected[len(self.trace)][2], 16)
                deadline = time.monotonic() + PATIENCE_S
                while mask != expected and time.monotonic() < deadline:
                    mask = self.kernel.poll([(fd, 0x7FFF)], 1_000_000)[0]
            self.note("look", hex(mask))
