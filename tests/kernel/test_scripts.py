"""Polls, cancellations and closes whose outcome the kernel fixes: events, results and order.

Each runs on this kernel and on the Linux underneath, and the traces must be the same.
"""

import errno

import pytest

from aiopoll import Context, probe

from .drivers import LinuxDriver, ModelDriver

pytestmark = pytest.mark.skipif(
    not probe().aio_poll, reason="this kernel has no AIO poll to compare with"
)
IN, OUT, ERR, HUP, RDHUP = 0x1, 0x4, 0x8, 0x10, 0x2000
SCRIPTS = []


def script(function):
    SCRIPTS.append(function)
    return function


class Run:
    """One driver, with the descriptors and requests of one script, and its trace."""

    def __init__(self, driver):
        self.driver = driver
        self.trace = []
        self.open = []
        self.iocbs = {}
        self.asked = {}

    def note(self, value):
        self.trace.append(value)
        return value

    def make(self, kind):
        fds = self.driver.make(kind)
        self.open += fds
        return fds

    def poll(self, fd, events, key):
        self.asked[key] = events | ERR | HUP
        self.iocbs[key], result = self.driver.submit("poll", fd, events, key)
        self.note(("poll", key, result))

    def fsync(self, fd, key):
        self.asked[key] = 0
        self.iocbs[key], result = self.driver.submit("fsync", fd, 0, key)
        self.note(("fsync", key, result))

    def cancel(self, key):
        self.note(("cancel", key, self.driver.cancel(self.iocbs[key])))

    def write(self, fd, size=1):
        self.note(("write", self.driver.write(fd, bytes(size))))

    def read(self, fd, size=1):
        self.note(("read", self.driver.read(fd, size, -errno.EAGAIN)))

    def close(self, fd):
        self.open.remove(fd)
        self.note(("close", self.driver.close(fd)))

    def reap(self, wanted):
        """Exactly `wanted` events, then no other."""
        self.note(("reap", self.driver.reap(self.asked, [None] * wanted)))
        self.note(("reap", self.driver.reap(self.asked)))


@script
def ready_at_submission(run):
    reader, writer = run.make("pipe")
    run.write(writer)
    for key, events in enumerate((IN, OUT, IN | OUT, 0)):
        run.poll(reader, events, key)
    run.reap(2)
    run.cancel(1)
    run.cancel(3)
    run.reap(2)


@script
def data_then_cancel(run):
    reader, writer = run.make("pipe")
    run.poll(reader, IN, 1)
    run.write(writer)
    run.cancel(1)
    run.reap(1)


@script
def cancel_then_data(run):
    reader, writer = run.make("pipe")
    run.poll(reader, IN, 1)
    run.cancel(1)
    run.write(writer)
    run.reap(1)


@script
def cancel_twice(run):
    reader, _ = run.make("pipe")
    run.poll(reader, IN, 1)
    run.cancel(1)
    run.reap(1)
    run.cancel(1)


@script
def one_shot(run):
    reader, writer = run.make("pipe")
    run.poll(reader, IN, 1)
    run.write(writer)
    run.write(writer)
    run.reap(1)


@script
def polls_of_a_pipe_fire_in_the_order_of_its_queue(run):
    """The last to come is the first to be woken."""
    reader, writer = run.make("pipe")
    for key in (1, 2, 3):
        run.poll(reader, IN, key)
    run.cancel(2)
    run.reap(1)
    run.write(writer)
    run.reap(2)
    assert run.trace[-2] == ("reap", [(3, IN), (1, IN)])


@script
def a_parked_poll_pins_the_pipe(run):
    reader, writer = run.make("pipe")
    run.poll(reader, IN, 1)
    run.close(reader)
    run.write(writer)
    run.reap(1)


@script
def hangup_and_error(run):
    reader, writer = run.make("pipe")
    run.poll(reader, 0, 1)
    run.close(writer)
    run.reap(1)
    reader, writer = run.make("pipe")
    run.write(writer, 65_536)
    run.poll(writer, OUT, 2)
    run.close(reader)
    run.reap(1)


@script
def drained_pipe_is_writable(run):
    reader, writer = run.make("pipe")
    run.write(writer, 65_536)
    run.poll(writer, OUT, 1)
    run.read(reader, 4096)
    run.reap(1)


@script
def unix_peer_closes(run):
    one, two = run.make("unix")
    run.poll(one, IN | RDHUP, 1)
    run.close(two)
    run.reap(1)


@script
def sync_of_files_and_of_others(run):
    (file,) = run.make("file")
    run.fsync(file, 1)
    run.reap(1)
    (counter,) = run.make("eventfd")
    run.fsync(counter, 2)
    run.reap(0)


@script
def refused_polls(run):
    run.poll(12_345, IN, 1)
    run.reap(0)


@pytest.fixture(scope="module")
def linux_context():
    with Context(64) as context:
        yield context


@pytest.mark.parametrize("body", SCRIPTS, ids=lambda body: body.__name__)
def test_script(linux_context, body):
    traces = []
    for driver in (ModelDriver(), LinuxDriver([linux_context])):
        run = Run(driver)
        try:
            body(run)
        finally:
            for fd in run.open:
                driver.close(fd)
            driver.finish()
        traces.append(run.trace)
    assert traces[0] == traces[1]
