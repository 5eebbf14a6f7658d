"""The machine of a case: libaio and the system calls it needs, of either kernel.

`LinuxMachine` is aiopoll.libaio and the os module on the Linux underneath.  `InProcessMachine` is
the same over aiopoll.kernel: its functions are libaio's C functions, one system call each and a
look into the ring.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import resource
import select
import signal
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from weakref import WeakKeyDictionary

from tests.support.kernel import nowait_errno_of_an_empty_pipe

from aiopoll import Context, libaio
from aiopoll.kernel import Kernel
from aiopoll.kernel.aio_abi import Iocb
from aiopoll.kernel.uapi import BADPTR, EPOLLIN, LONG_MAX, PAGE_SIZE
from aiopoll.kernel.wait import WaitQueueHead, wait_event_interruptible

LIMIT_S = 60
CLONE_NEWNS = 0x20000
CLONE_NEWUSER = 0x10000000
MS_REC = 0x4000
MS_PRIVATE = 0x40000


class LinuxMachine:
    """The Linux underneath."""

    # Python passes objects, so only the address of a buffer can be bad.
    bad_pointer = None
    move_ring = None

    io_setup = staticmethod(libaio.io_setup)
    io_destroy = staticmethod(libaio.io_destroy)
    io_submit = staticmethod(libaio.io_submit)
    io_cancel = staticmethod(libaio.io_cancel)
    io_getevents = staticmethod(libaio.io_getevents)
    io_pgetevents = staticmethod(libaio.io_pgetevents)
    io_queue_init = staticmethod(libaio.io_queue_init)
    new_context = staticmethod(libaio.io_context_t)

    close = staticmethod(os.close)
    read = staticmethod(os.read)
    write = staticmethod(os.write)
    pread = staticmethod(os.pread)
    pwrite = staticmethod(os.pwrite)
    ftruncate = staticmethod(os.ftruncate)
    pipe = staticmethod(os.pipe)
    splice = staticmethod(os.splice)
    eventfd = staticmethod(os.eventfd)
    eventfd_read = staticmethod(os.eventfd_read)
    getpid = staticmethod(os.getpid)
    kill = staticmethod(os.kill)

    def __init__(self):
        self.rings = self.count_rings()
        self.barriers = []

    @staticmethod
    def count_rings():
        """The contexts of this process: the kernel maps a ring named [aio] for each."""
        return Path("/proc/self/maps").read_text(encoding="utf-8").count("[aio]")

    def finish(self):
        """Checks that no context is left.  It counts rings, for other programs change fs.aio-nr."""
        assert self.count_rings() == self.rings

    def open(self, path, flags):
        return os.open(path, flags, 0o600)

    @contextlib.contextmanager
    def mmap(self, fd, size, prot):
        with mmap.mmap(fd, size, mmap.MAP_SHARED, prot) as mapping:
            yield mapping

    @contextlib.contextmanager
    def mmap_of_unknown_protection(self, fd, size, prot):
        """Memory that is not writable, unknown to Python."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        address = libc.mmap(None, size, prot, mmap.MAP_SHARED, fd, 0)
        assert address != ctypes.c_void_p(-1).value
        try:
            yield (ctypes.c_char * size).from_address(address)
        finally:
            libc.munmap(address, size)

    def bad_buffers(self, size):
        """Nothing is mapped at 0, and no process may touch the last page of the address space."""
        return [(ctypes.c_char * size).from_address(address) for address in (0, 2**64 - 4096)]

    def wait_readable(self, fd):
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        return bool(poller.poll(LIMIT_S * 1000))

    def sysctl(self, name):
        return int(Path("/proc/sys/fs", name).read_text(encoding="ascii"))

    def ring_nr(self, maxevents):
        """How many events the ring of such a context has; 127 where no ring can be read."""
        with Context(maxevents, user_ring=True) as context:
            return context.statistics().ring_nr or 127

    def limit_file_size(self, limit):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    def mount(self, directory, size):
        """A small tmpfs in a mount namespace of this process's own.  OSError if not allowed.

        The namespace is made with a user namespace where the tests do not run as root.
        """
        libc = ctypes.CDLL(None, use_errno=True)

        def check(result):
            if result != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))

        uid, gid = os.geteuid(), os.getegid()
        check(libc.unshare(CLONE_NEWNS if uid == 0 else CLONE_NEWNS | CLONE_NEWUSER))
        if uid != 0:
            # Without a mapping of ids no file could be created, for it would have no owner.
            Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1", encoding="ascii")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")
        check(libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None))
        options = f"size={size}".encode()
        check(libc.mount(b"tmpfs", bytes(directory), b"tmpfs", ctypes.c_ulong(0), options))

    nowait_errno_of_an_empty_pipe = staticmethod(nowait_errno_of_an_empty_pipe)

    def direct_read_would_wait(self, fd, buf):
        """Asks preadv2(2) whether this file system would wait."""
        try:
            os.preadv(fd, [buf], 0, os.RWF_NOWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    # Signals, processes, threads

    def sigaction(self, signo, handler):
        signal.signal(signo, lambda signo, _: handler(signo))

    def block(self, signals):
        """Blocks `signals` as well; returns the signals blocked before."""
        return signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def fork(self, body):
        """A child that runs `body` and ends, with status 0 if that returned."""
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                body()
                status = 0
            finally:
                os._exit(status)
        return pid

    def waitpid(self, pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def in_child(self, body):
        """Runs `body` in a child; fails with its traceback, or when it takes too long."""
        report_read, report_write = os.pipe()

        def reported():
            os.close(report_read)
            try:
                body()
            except BaseException:
                os.write(report_write, traceback.format_exc().encode())
                raise

        pid = self.fork(reported)
        os.close(report_write)
        report = b""
        deadline = time.monotonic() + LIMIT_S
        poller = select.poll()
        poller.register(report_read, select.POLLIN)
        try:
            while poller.poll(max(0, deadline - time.monotonic()) * 1000):
                chunk = os.read(report_read, 65536)
                if not chunk:
                    break
                report += chunk
            else:
                os.kill(pid, signal.SIGKILL)
                report += b"the child did not end in time"
        finally:
            os.close(report_read)
            status = self.waitpid(pid)
        assert status == 0, report.decode()

    def barrier(self, parties):
        self.barriers.append(threading.Barrier(parties, timeout=30))
        return self.barriers[-1]

    def threads(self, *functions):
        """Runs them all at once; raises the exception of the first of them in this order."""
        with ThreadPoolExecutor(len(functions)) as pool:
            futures = [pool.submit(function) for function in functions]
            try:
                for future in futures:
                    future.result(LIMIT_S)
            except BaseException:
                for barrier in self.barriers:
                    barrier.abort()
                raise


class Holder:
    """io_context_t: the id of a context, 0 for NULL."""

    def __init__(self):
        self.id = 0

    def __bool__(self):
        return self.id != 0


class Address(bytearray):
    """User memory that is no Python buffer, in the guise of one, as io_prep_* demands it."""

    def __init__(self, size, memory):
        super().__init__(size)
        self.memory = memory

    def __getitem__(self, part):
        return self.memory[part]


class Barrier:
    def __init__(self, kernel, parties):
        self.queue = WaitQueueHead(kernel.sched, "barrier")
        self.parties = parties
        self.waiting = self.generation = 0

    def wait(self):
        generation = self.generation
        self.waiting += 1
        if self.waiting == self.parties:
            self.waiting = 0
            self.generation += 1
            self.queue.wake_up_all()
        else:
            wait_event_interruptible(self.queue, lambda: self.generation != generation)


class InProcessMachine:
    """An in-process kernel, with a seed, so that threads interleave and work is deferred."""

    bad_pointer = BADPTR
    new_context = Holder

    def __init__(self, user_ring, directory):
        self.kernel = kernel = Kernel(seed=1)
        self.user_ring = user_ring
        # Files are as large as ext4 allows them to be.
        kernel.mount(str(directory), s_maxbytes=2**44 - PAGE_SIZE)
        self.kernel_iocbs = WeakKeyDictionary()
        for name in ("close", "read", "write", "pread", "ftruncate", "splice"):
            setattr(self, name, getattr(kernel, name))
        for name in ("getpid", "kill", "sigaction", "fork", "waitpid"):
            setattr(self, name, getattr(kernel, name))
        self.pipe = kernel.pipe2
        self.eventfd = kernel.eventfd2

    def finish(self):
        """No context, no request and no reference is left."""
        kernel = self.kernel
        kernel.run_pending()
        assert kernel.contexts == {}
        assert kernel.aio_nr == 0
        assert list(kernel.processes) == [1]
        assert all(file.f_count == 1 for file in kernel.files.files.values())
        kernel.halt()

    # libaio

    def _call(self, function, *arguments):
        try:
            return function(*arguments)
        except OSError as error:
            return -error.errno

    def io_setup(self, maxevents, ctxp):
        holds = None if ctxp is None else ctxp.id
        result = self._call(self.kernel.io_setup, maxevents, holds)
        if result < 0:
            return result
        ctxp.id = result
        return 0

    def io_queue_init(self, maxevents, ctxp):
        if maxevents <= 0:
            return -errno.EINVAL
        ctxp.id = 0
        return self.io_setup(maxevents, ctxp)

    def io_destroy(self, ctx):
        return self._call(self.kernel.io_destroy, ctx.id if ctx else 0) or 0

    def io_submit(self, ctx, nr, ios):
        iocbs = ios if ios in (None, BADPTR) else [self._kernel_iocb(cb) for cb in ios]
        return self._call(self.kernel.io_submit, ctx.id if ctx else 0, nr, iocbs)

    def _kernel_iocb(self, cb):
        """The kernel's iocb at the address of `cb`, which is the same for the same `cb`."""
        if cb in (None, BADPTR):
            return cb
        kernel_iocb = self.kernel_iocbs.setdefault(cb, Iocb())
        u = cb.u
        single = cb.aio_lio_opcode in (libaio.IO_CMD_PREAD, libaio.IO_CMD_PWRITE)
        vector = cb.aio_lio_opcode in (libaio.IO_CMD_PREADV, libaio.IO_CMD_PWRITEV)
        kernel_iocb.__init__(
            cb.aio_lio_opcode,
            cb.aio_fildes,
            0 if single or vector else u.buf or 0,
            u.nbytes,
            u.offset,
            (cb, cb.data),
            cb.key,
            cb.aio_rw_flags,
            cb.aio_reqprio,
            aio_flags=u.flags,
            aio_resfd=u.resfd,
            memory=getattr(u.buf, "memory", u.buf) if single or vector else None,
        )
        return kernel_iocb

    def io_cancel(self, ctx, cb, evt):
        kernel_iocb = self.kernel_iocbs.get(cb, Iocb()) if cb is not None else None
        return self._call(self.kernel.io_cancel, ctx.id if ctx else 0, kernel_iocb)

    def io_getevents(self, ctx, min_nr, nr, events, timeout):
        return self._getevents(ctx, min_nr, nr, events, timeout)

    def io_pgetevents(self, ctx, min_nr, nr, events, timeout, sigmask):
        return self._getevents(ctx, min_nr, nr, events, timeout, sigmask=sigmask)

    def _getevents(self, ctx, min_nr, nr, events, timeout, **mask):
        """Takes the events in the ring, as Context.reap does, or asks the kernel."""
        ring = None
        context = self.kernel.contexts.get(ctx.id) if ctx else None
        if self.user_ring and context is not None and BADPTR not in (timeout, *mask.values()):
            ring = context.ring
        timeout_ns = timeout
        if isinstance(timeout, libaio.timespec):
            timeout_ns = timeout.tv_sec * 10**9 + timeout.tv_nsec
        if ring and timeout_ns == 0 and ring.head == ring.tail:
            return 0
        waiting = (ring.tail - ring.head) % ring.nr if ring else 0
        if events and 0 <= min_nr <= nr and waiting >= max(min_nr, 1):
            reaped = ring.reap(nr)
        else:
            memory = BADPTR if events is None else None
            call = self.kernel.io_pgetevents if mask else self.kernel.io_getevents
            arguments = (ctx.id if ctx else 0, min_nr, nr, timeout_ns)
            reaped = self._call(lambda: call(*arguments, events=memory, **mask))
            if isinstance(reaped, int):
                return reaped
        for slot, event in zip(events or (), reaped, strict=False):
            slot.obj, slot.data = event.data
            slot.res, slot.res2 = event.res, event.res2
        return len(reaped)

    def move_ring(self, ctx):
        size = self.kernel.contexts[ctx.id].ring.size
        ctx.id = self.kernel.mremap(ctx.id, size, size)

    # Files

    def open(self, path, flags):
        return self.kernel.open(str(path), flags)

    @contextlib.contextmanager
    def mmap(self, fd, size, prot):
        mapping = self.kernel.mmap(fd, size, prot)
        try:
            yield Address(size, mapping)
        finally:
            self.kernel.munmap(mapping)

    mmap_of_unknown_protection = mmap

    def bad_buffers(self, size):
        return [None, Address(size, BADPTR)]

    def pwrite(self, fd, data, offset):
        if isinstance(data, Address):
            data = data.memory.load(len(data))
        return self.kernel.pwrite(fd, data, offset)

    def eventfd_read(self, fd):
        return int.from_bytes(self.kernel.read(fd, 8), "little")

    def wait_readable(self, fd):
        return bool(self.kernel.poll([(fd, EPOLLIN)], LIMIT_S * 10**9)[0])

    def sysctl(self, name):
        return {"aio-nr": self.kernel.aio_nr, "aio-max-nr": self.kernel.aio_max_nr}[name]

    def ring_nr(self, maxevents):
        ctx = self.kernel.io_setup(maxevents)
        nr = self.kernel.contexts[ctx].ring.nr
        self.kernel.io_destroy(ctx)
        return nr

    def limit_file_size(self, limit):
        self.kernel.setrlimit(resource.RLIMIT_FSIZE, limit)

    def mount(self, directory, size):
        self.kernel.mount(str(directory), size, LONG_MAX)

    def nowait_errno_of_an_empty_pipe(self):
        return errno.EAGAIN

    def direct_read_would_wait(self, fd, buf):
        return True

    # Processes, threads

    def block(self, signals):
        before = self.kernel.sigprocmask(signals)
        self.kernel.sigprocmask(before | frozenset(signals))
        return before

    def in_child(self, body):
        assert self.kernel.waitpid(self.kernel.fork(body)) == 0

    def barrier(self, parties):
        return Barrier(self.kernel, parties)

    def threads(self, *functions):
        for task in [self.kernel.spawn(function) for function in functions]:
            self.kernel.join(task)
