"""epoll here and on the Linux underneath: level, edge, oneshot and nested sets, in order.

Eventfds and Unix sockets are watched, not pipes: today's pipe wakes for room only when it was full,
that of 2018 for every page read.
"""

import os
import select

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiopoll.kernel import Kernel
from aiopoll.kernel.uapi import EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD

from .drivers import LinuxDriver, ModelDriver, answer

ET, ONESHOT = select.EPOLLET, select.EPOLLONESHOT
EVENTS = (1, 4, 5, 0x2001, 1 | ET, 5 | ET, 0x2001 | ET, 1 | ONESHOT, 5 | ONESHOT, 1 | ET | ONESHOT)
OPERATIONS_IN_ALL = int(os.environ.get("AIOPOLL_DIFFERENTIAL_OPERATIONS", "4000"))
OPERATIONS_EACH = 30
STEPS = ("add", "add", "mod", "del", "read", "write", "write", "close", "wait", "wait", "look")


class Sets:
    """An inner and an outer epoll set on each side; the outer one watches the inner one."""

    def __init__(self):
        self.kernel = Kernel()
        self.here = [self.kernel.epoll_create1() for _ in range(2)]
        self.kernel.epoll_ctl(self.here[1], EPOLL_CTL_ADD, self.here[0], 1, 999)
        self.there = [select.epoll() for _ in range(2)]
        self.there[1].register(self.there[0], 1)
        self.model, self.linux = ModelDriver(), LinuxDriver([])
        self.model.kernel.halt()
        self.model.kernel = self.kernel
        self.fds = []
        for kind in ("eventfd", "unix"):
            self.fds += zip([kind] * 2, self.model.make(kind), self.linux.make(kind), strict=False)

    def run(self, step, which, number):
        if step in ("wait", "look"):
            ready = 1 if step == "look" else 0
            number = 1 + number % 3
            here = self.kernel.epoll_wait(self.here[ready], number, 0)
            there = self.there[ready].poll(0, number)
            names = {model: linux for _, model, linux in self.fds}
            names[999] = self.there[0].fileno()
            return [(names[fd], events) for fd, events in here], there
        if not self.fds:
            return None, None
        entry = _, model, linux = self.fds[which % len(self.fds)]
        events = EVENTS[number % len(EVENTS)]
        if step in ("add", "mod", "del"):
            op = {"add": EPOLL_CTL_ADD, "mod": EPOLL_CTL_MOD, "del": EPOLL_CTL_DEL}[step]
            calls = {
                "add": lambda: self.there[0].register(linux, events),
                "mod": lambda: self.there[0].modify(linux, events),
                "del": lambda: self.there[0].unregister(linux),
            }
            here = answer(self.kernel.epoll_ctl, self.here[0], op, model, events)
            return here, answer(calls[step])
        if step == "read":
            here = self.model.read(model, 8)
            return here, self.linux.read(linux, 8, expected=here)
        if step == "write":
            data = (1).to_bytes(8, "little")
            return self.model.write(model, data), self.linux.write(linux, data)
        self.fds.remove(entry)
        return self.model.close(model), self.linux.close(linux)

    def finish(self):
        for _, _, linux in self.fds:
            os.close(linux)
        for epoll in self.there:
            epoll.close()
        self.kernel.halt()


step = st.tuples(st.sampled_from(STEPS), st.integers(0, 3), st.integers(0, 29))


@pytest.mark.slow
@settings(
    max_examples=max(150, OPERATIONS_IN_ALL // OPERATIONS_EACH),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(step, min_size=OPERATIONS_EACH, max_size=OPERATIONS_EACH))
def test_random_epoll_scenarios(steps):
    sets = Sets()
    trace = []
    try:
        for step in steps:
            here, there = sets.run(*step)
            trace.append((step, here, there))
            assert here == there, "\n".join(map(str, trace))
    finally:
        sets.finish()


def test_the_sockets_are_watched_until_they_are_closed():
    """The scenarios must not be empty: this one has events on both sides."""
    sets = Sets()
    try:
        sets.run("add", 1, 0)
        sets.run("write", 2, 0)
        here, there = sets.run("wait", 0, 2)
        assert here == there
        assert len(here) == 1
    finally:
        sets.finish()
