"""CPython's own selector tests, on a selector over an in-process kernel."""

import errno
import unittest
from unittest import mock

import pytest

from aiopoll.kernel import Kernel
from aiopoll.kernel.usersocket import socketpair

stdlib = pytest.importorskip("test.test_selectors", reason="CPython's tests are not installed")


class Sockets:
    """Stands for the socket module: pairs of the kernel under test."""

    def __init__(self, kernel):
        self.kernel = kernel

    def socket(self, *args):
        from aiopoll.kernel.usersocket import KernelSocket

        return KernelSocket(self.kernel, *args)


class TestKernelSelector(stdlib.BaseSelectorTestCase, unittest.TestCase):
    def setUp(self):
        self.kernel = Kernel()
        self.addCleanup(self.kernel.halt)
        self.SELECTOR = self.kernel.selector
        clock = self.kernel.sched.clock

        def time():
            return clock.now_ns / 1e9

        def sleep(seconds):
            self.kernel.nanosleep(int(seconds * 1e9))

        for patch in (
            mock.patch.object(stdlib, "time", time),
            mock.patch.object(stdlib, "socket", Sockets(self.kernel)),
            mock.patch.object(stdlib, "sleep", sleep),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    def make_socketpair(self):
        one, two = socketpair(self.kernel)
        self.addCleanup(one.close)
        self.addCleanup(two.close)
        return one, two

    def _signals(self, test, handler):
        """The two signal tests raise alarms of the real clock: here the virtual one sends them."""
        import signal

        kernel = self.kernel
        kernel.sigaction(signal.SIGALRM, lambda signo: handler())
        timer = kernel.timerfd_create()
        watched = kernel.fget(timer).private_data
        expire = watched._expire

        def alarm():
            expire()
            kernel.kill(0, signal.SIGALRM)

        watched.timer.function = alarm
        kernel.timerfd_settime(timer, 1_000_000_000)

    def test_modify_unregister(self):
        """CPython's patches its own selectors' epoll object; here the kernel refuses."""
        selector = self.kernel.selector()
        self.addCleanup(selector.close)
        reader, _ = self.make_socketpair()
        selector.register(reader, 1)
        refusal = mock.patch.object(self.kernel, "epoll_ctl", side_effect=OSError(errno.ENOENT, ""))
        with refusal, pytest.raises(OSError, match="Errno 2"):
            selector.modify(reader, 2)
        assert len(selector.get_map()) == 0

    def test_select_interrupt_exc(self):
        selector = self.kernel.selector()
        self.addCleanup(selector.close)
        reader, _ = self.make_socketpair()
        selector.register(reader, 1)

        class InterruptSelect(Exception):
            pass

        def handler():
            raise InterruptSelect

        self._signals(self, handler)
        with pytest.raises(InterruptSelect):
            selector.select(30)
        assert self.kernel.clock_gettime() == 1_000_000_000

    def test_select_interrupt_noraise(self):
        selector = self.kernel.selector()
        self.addCleanup(selector.close)
        reader, _ = self.make_socketpair()
        selector.register(reader, 1)
        self._signals(self, lambda: None)
        # The rest of the time is waited for.
        assert selector.select(30) == []
        assert self.kernel.clock_gettime() == 30_000_000_000


class TestScalable(stdlib.ScalableSelectorMixIn, unittest.TestCase):
    """The mixin for selectors that take more descriptors than FD_SETSIZE."""

    make_socketpair = TestKernelSelector.make_socketpair

    def setUp(self):
        self.kernel = Kernel()
        self.addCleanup(self.kernel.halt)
        self.SELECTOR = self.kernel.selector

    def test_above_fd_setsize(self):
        selector = self.SELECTOR()
        self.addCleanup(selector.close)
        for _ in range(600):
            reader, writer = self.make_socketpair()
            selector.register(reader, 1)
            selector.register(writer, 2)
        assert len(selector.select()) == 600
