"""One set of operations, and two drivers that carry it out: this kernel, and the Linux underneath.

An operation answers a number (a count, a mask), bytes' length, or -errno. `expected` is what the
other side answered: the real side uses it only to know how long to wait for the network or for a
work item, never to decide what to answer.
"""

import errno
import os
import select
import signal
import socket
import tempfile

from aiopoll import Context
from aiopoll import Iocb as RealIocb
from aiopoll.kernel import Kernel
from aiopoll.kernel.aio_abi import Iocb
from aiopoll.kernel.uapi import EPOLLERR, EPOLLHUP

KINDS = ("pipe", "eventfd", "timerfd", "unix", "tcp", "file")
PATIENCE_MS = 2000


def answer(function, *arguments):
    """What a system call answers, as the kernel would: a number or -errno."""
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
        self.ctx = self.kernel.io_setup(256)
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
        if kind == "unix":
            return list(kernel.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | os.O_NONBLOCK))
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

    def write(self, fd, data):
        return answer(self.kernel.write, fd, data)

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

    def submit(self, kind, fd, events, key):
        iocb = Iocb.poll(fd, events, key) if kind == "poll" else Iocb.fsync(fd, key)
        return iocb, answer(self.kernel.io_submit, self.ctx, 1, [iocb])

    def cancel(self, iocb):
        result = answer(self.kernel.io_cancel, self.ctx, iocb)
        return 0 if result == -errno.EINPROGRESS else result

    def reap(self, asked, expected=None):
        events = self.kernel.io_getevents(self.ctx, 0, 256)
        return sorted((event.data, event.res) for event in events)

    def interrupted_wait(self):
        """A signal that is pending and blocked, let in for the time of a wait."""
        self.kernel.sigprocmask([signal.SIGUSR1])
        self.kernel.kill(0, signal.SIGUSR1)
        before = self.signals
        result = answer(lambda: self.kernel.io_pgetevents(self.ctx, 1, 1, None, []))
        self.kernel.sigprocmask([])
        return result, self.signals - before

    def finish(self):
        self.kernel.halt()


class LinuxDriver:
    """The Linux underneath, through Context."""

    def __init__(self, context):
        self.context = context
        self.sockets = {}
        self.signals = 0

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
        if kind == "unix":
            pair = socket.socketpair()
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

    @staticmethod
    def _wait(fd, events):
        poller = select.poll()
        poller.register(fd, events)
        return poller.poll(PATIENCE_MS)

    def write(self, fd, data):
        return answer(os.write, fd, data)

    def close(self, fd):
        return answer(os.close, fd)

    def shutdown(self, fd, how):
        sock = socket.socket(fileno=fd)
        try:
            return answer(sock.shutdown, how)
        finally:
            sock.detach()

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
            # What was sent over the network may still be on its way.
            self._wait(fd, expected & ~found & (events | EPOLLERR | EPOLLHUP))
            found = dict(poller.poll(0)).get(fd, 0)
        return found

    def submit(self, kind, fd, events, key):
        make = RealIocb.poll if kind == "poll" else RealIocb.fsync
        iocb = make(fd, events, data=key) if kind == "poll" else make(fd, data=key)
        return iocb, answer(self.context.submit, [iocb])

    def cancel(self, iocb):
        try:
            return answer(self.context.cancel, iocb)
        except ValueError:
            # Context knows that the event was reaped, and does not ask the kernel.
            return -errno.EINVAL

    def reap(self, asked, expected=None):
        wanted = len(expected or ())
        events = self.context.getevents(wanted, 256, PATIENCE_MS * 1_000_000)
        # Today's kernel answers a keyed wake-up with the whole key: keep what was asked.
        return sorted(
            (event.data, event.res & asked[event.data])
            if event.res > 0
            else (event.data, event.res)
            for event in events
        )

    def interrupted_wait(self):
        calls = []
        before = signal.signal(signal.SIGUSR1, lambda *_: calls.append(1))
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            result = answer(lambda: self.context.getevents(1, 1, None, ()))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            signal.signal(signal.SIGUSR1, before)
        return result, len(calls)

    def finish(self):
        pass


class _Libc:
    """eventfd and timerfd, which Python 3.11 has only half of."""

    def __init__(self):
        import ctypes

        self._ctypes = ctypes
        self._libc = ctypes.CDLL(None, use_errno=True)

    def _call(self, name, *arguments):
        result = getattr(self._libc, name)(*arguments)
        return -self._ctypes.get_errno() if result < 0 else result

    def eventfd(self, initval, flags):
        return os.eventfd(initval, flags)

    def timerfd_create(self, clock, flags):
        return self._call("timerfd_create", clock, flags)

    def timerfd_settime(self, fd, value_ns):
        spec = (self._ctypes.c_long * 4)(0, 0, 0, value_ns)
        return self._call("timerfd_settime", fd, 0, spec, None)


_libc = _Libc()


class Pair:
    """Both kernels side by side: each operation is done on both, and the answers compared."""

    def __init__(self, context: Context):
        self.model = ModelDriver()
        self.linux = LinuxDriver(context)
        self.trace = []
        self.objects = []  # (kind, index of the end, model fd, linux fd)
        self.requests = {}
        self.asked = {}
        self.owner = {}
        self.made = 0
        self.retired = []
        self.keyless = False

    def _both(self, what, model, linux):
        self.trace.append((what, model, linux))
        assert model == linux, "\n".join(map(str, self.trace))
        return model

    def _call(self, what, name, model_arguments, linux_arguments, hint=False):
        model = getattr(self.model, name)(*model_arguments)
        extra = {"expected": model} if hint else {}
        linux = getattr(self.linux, name)(*linux_arguments, **extra)
        return self._both(what, model, linux)

    def make(self, kind):
        fds = zip(self.model.make(kind), self.linux.make(kind), strict=True)
        for end, (model_fd, linux_fd) in enumerate(fds):
            self.objects.append((kind, end, model_fd, linux_fd, self.made))
        self.made += 1

    def run(self, operation, which, number):
        """One operation on the `which`-th open end; `number` is whatever it needs."""
        before = len(self.trace)
        self._run(operation, which, number)
        # A FIN or a reset wakes without a key: today's kernel looks some time later, and must
        # have looked before the next operation changes what there is to see.
        if any(what[0] in ("close", "shutdown", "write") for what, _, _ in self.trace[before:]):
            if self.keyless:
                self.reap()
            self.keyless = False

    def _run(self, operation, which, number):
        if operation == "make":
            if len(self.objects) < 24:
                self.make(KINDS[number % len(KINDS)])
            return
        if operation == "reap":
            self.reap()
            return
        if operation == "signal":
            self.reap()
            self._call(("signal",), "interrupted_wait", (), ())
            return
        if operation == "cancel":
            self.cancel(number)
            return
        if not self.objects:
            return
        entry = self.objects[which % len(self.objects)]
        kind, end, model_fd, linux_fd, _ = entry
        what = (operation, kind, end, number)
        self.keyless = kind == "tcp" or operation in ("close", "shutdown")
        if operation == "close":
            self.objects.remove(entry)
            if entry in [self.owner[key] for key in self.requests]:
                self.retire(entry)
            self._call(what, "close", (model_fd,), (linux_fd,))
        elif operation == "read":
            count = 8 if kind in ("eventfd", "timerfd") else 1 + number % 5000
            self._call(what, "read", (model_fd, count), (linux_fd, count), True)
        elif operation == "write":
            size = 1 + number % 3000
            data = (1 + number % 7).to_bytes(8, "little") if kind == "eventfd" else bytes(size)
            self._call(what, "write", (model_fd, data), (linux_fd, data))
        elif operation == "shutdown" and kind in ("unix", "tcp"):
            how = number % 3
            self._call(what, "shutdown", (model_fd, how), (linux_fd, how))
        elif operation == "fire" and kind == "timerfd":
            self._call(what, "fire_timer", (model_fd,), (linux_fd,))
        elif operation == "look":
            events = EVENTS[number % len(EVENTS)]
            self._call(what, "poll", (model_fd, events), (linux_fd, events), True)
        elif operation == "poll" and kind != "file":
            self.submit("poll", entry, EVENTS[number % len(EVENTS)])
        elif operation == "fsync":
            self.submit("fsync", entry, 0)

    def retire(self, closed):
        """Leave the other end of a pinned file alone.

        The request's event comes first and the release some time after it, from a work item: what
        the other end sees meanwhile is a matter of luck. Pinning has tests of its own.
        """
        others = [entry for entry in self.objects if entry[4] == closed[4]]
        self.retired += others
        self.objects = [entry for entry in self.objects if entry not in others]

    def submit(self, operation, entry, events):
        kind, end, model_fd, linux_fd, _ = entry
        key = len(self.asked) + 1
        # Both sides must agree on what is ready before either is asked to decide.
        if operation == "poll":
            self._call(("look", kind, end), "poll", (model_fd, events), (linux_fd, events), True)
        self.asked[key] = events | EPOLLERR | EPOLLHUP
        model_iocb, model = self.model.submit(operation, model_fd, events, key)
        linux_iocb, linux = self.linux.submit(operation, linux_fd, events, key)
        if self._both((operation, kind, end, events, key), model, linux) == 1:
            self.requests[key] = (model_iocb, linux_iocb)
            self.owner[key] = entry

    def cancel(self, number):
        # Whether an event is on its way must not depend on the network: take them all in first.
        self.reap()
        # Those of closed files stay until the end, see `retire`.
        keys = [key for key in sorted(self.requests) if self.owner[key] in self.objects]
        if keys:
            key = keys[number % len(keys)]
            self._call(
                ("cancel", key), "cancel", (self.requests[key][0],), (self.requests[key][1],)
            )
            self.reap()

    def reap(self):
        # An fsync is a work item: its event comes soon, and the model knows that it does.
        model = self.model.reap(self.asked)
        linux = self.linux.reap(self.asked, model)
        if len(linux) == len(model):
            linux = [later_look(*pair) for pair in zip(model, linux, strict=True)]
        self._both(("reap",), model, linux)
        for key, _ in model:
            del self.requests[key]

    def finish(self):
        """Cancel what is left: on either side each request gives one event. Close everything."""
        self.reap()
        left = sorted(self.requests)
        for key in left:
            # Which of them are ready by now is a matter of luck, see `retire`.
            self.model.cancel(self.requests[key][0])
            self.linux.cancel(self.requests[key][1])
        model = self.model.reap(self.asked)
        linux = self.linux.reap(self.asked, left)
        assert [key for key, _ in model] == left
        assert [key for key, _ in linux] == left
        self.requests.clear()
        assert self.linux.reap(self.asked) == []
        for _, _, model_fd, linux_fd, _ in self.objects + self.retired:
            self._call(("close",), "close", (model_fd,), (linux_fd,))
        self.model.finish()

    def abandon(self):
        """After a difference: leave nothing behind on the real side."""
        for _, linux_iocb in self.requests.values():
            self.linux.cancel(linux_iocb)
        while self.linux.context.getevents(1, 256, PATIENCE_MS * 100_000):
            pass
        for _, _, _, linux_fd, _ in self.objects + self.retired:
            self.linux.close(linux_fd)


def later_look(model, linux):
    """The divergence of that name: errors and hang-ups that today's kworker saw in addition."""
    extra = linux[1] & ~model[1] if min(linux[1], model[1]) > 0 else 0
    return model if extra and (linux[0], linux[1] & ~(EPOLLERR | EPOLLHUP)) == model else linux


EVENTS = (0x1, 0x4, 0x5, 0x2001, 0x2000, 0x0, 0x41, 0x104)
OPERATIONS = (
    "make",
    "poll",
    "poll",
    "poll",
    "read",
    "read",
    "write",
    "write",
    "write",
    "close",
    "shutdown",
    "fire",
    "look",
    "fsync",
    "cancel",
    "reap",
    "reap",
    "signal",
)
