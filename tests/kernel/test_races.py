"""Every interleaving of the races that AIO poll can lose, and broken kernels that lose them."""

import contextlib
import errno

import pytest

from aiopoll.kernel import Kernel
from aiopoll.kernel.aio import AIO_IOCB_CANCELLED, Aio
from aiopoll.kernel.aio_abi import Iocb
from aiopoll.kernel.race import explore, replay
from aiopoll.kernel.sched import Deadlock
from aiopoll.kernel.select import vfs_poll_mask
from aiopoll.kernel.uapi import EPOLLHUP, EPOLLIN


class Scene:
    """A pipe with one poll on it, a task per racer and a kworker."""

    def __init__(self, kernel, aio=None, armed=True):
        self.kernel = kernel
        if aio is not None:
            kernel.aio = aio(kernel.sched)
        self.reader, self.writer = kernel.pipe2()
        self.ctx_id = kernel.io_setup(4)
        self.ctx = kernel.contexts[self.ctx_id]
        self.file = kernel.fget(self.reader)
        self.writer_file = kernel.fget(self.writer)
        self.head = self.file.private_data.pipe.wait
        self.iocb = Iocb.poll(self.reader, EPOLLIN)
        if armed:
            kernel.io_submit(self.ctx_id, 1, [self.iocb])
        kernel.sched.spawn_kworker()

    def race(self, *racers):
        tasks = [self.kernel.spawn(racer) for racer in racers]
        return [self.kernel.join(task) for task in tasks]

    def write(self):
        self.kernel.write(self.writer, b"x")

    def cancel(self):
        try:
            return self.kernel.io_cancel(self.ctx_id, self.iocb)
        except OSError as exc:
            return -exc.errno

    def submit(self):
        try:
            return self.kernel.io_submit(self.ctx_id, 1, [self.iocb])
        except OSError as exc:
            return -exc.errno

    def wait(self):
        try:
            return [event.res for event in self.kernel.io_getevents(self.ctx_id, 1, 4)]
        except OSError as exc:
            return -exc.errno

    def destroy(self):
        self.kernel.io_destroy(self.ctx_id)

    def settle(self):
        """All deferred work is done when a task that only sleeps a while has slept."""
        self.kernel.nanosleep(1)
        self.kernel.run_pending()

    def events(self):
        self.settle()
        return [event.res for event in self.kernel.io_getevents(self.ctx_id, 0, 4)]

    def check_clean(self):
        """Nothing in flight, no entry on a queue, no reference to a file but the descriptor's."""
        ctx = self.ctx
        assert ctx.in_flight == 0
        assert ctx.active_reqs == []
        assert self.head.entries == ctx.wait.entries == ctx.drained.entries == []
        for fd, file in ((self.reader, self.file), (self.writer, self.writer_file)):
            assert file.f_count == (self.kernel.files.files.get(fd) is file)
        locks = (ctx.ctx_lock, ctx.completion_lock, self.head.lock)
        assert [lock.owner for lock in locks] == [None] * 3
        if self.ctx_id in self.kernel.contexts:
            ctx.user_refill_reqs_available()
            assert ctx.ring.head == ctx.ring.tail
            assert ctx.cpu_reqs + ctx.reqs_available == ctx.ring.nr - 1, "a slot was lost"


def cancel_against_wake(kernel, aio=None):
    scene = Scene(kernel, aio)
    _, answer = scene.race(scene.write, scene.cancel)
    events = scene.events()
    # The wake-up won and the check found nothing, or found it in time, or after the wake-up.
    assert (answer, events) in [
        (-errno.EINVAL, [EPOLLIN]),
        (-errno.EINPROGRESS, [0]),
        (-errno.EINPROGRESS, [EPOLLIN]),
    ]
    scene.check_clean()


def two_cancels_against_wake(kernel, aio=None):
    scene = Scene(kernel, aio)
    _, first, second = scene.race(scene.write, scene.cancel, scene.cancel)
    assert len(scene.events()) == 1
    assert [first, second].count(-errno.EINPROGRESS) <= 1
    scene.check_clean()


def close_against_wake(kernel, aio=None):
    scene = Scene(kernel, aio)
    scene.race(scene.write, lambda: kernel.close(scene.reader))
    assert scene.events() == [EPOLLIN]
    assert scene.file.f_count == 0
    scene.check_clean()


def close_of_the_writer_against_cancel(kernel, aio=None):
    scene = Scene(kernel, aio)
    _, answer = scene.race(lambda: kernel.close(scene.writer), scene.cancel)
    events = scene.events()
    assert (answer, events) in [
        (-errno.EINVAL, [EPOLLHUP]),
        (-errno.EINPROGRESS, [0]),
        (-errno.EINPROGRESS, [EPOLLHUP]),
    ]
    scene.check_clean()


def destroy_against_wake(kernel, aio=None):
    scene = Scene(kernel, aio)
    scene.race(scene.write, lambda: kernel.io_destroy(scene.ctx_id))
    scene.settle()
    scene.check_clean()
    with pytest.raises(OSError, match=r"\[Errno 22\]"):
        kernel.io_getevents(scene.ctx_id, 0, 1)


def destroy_against_cancel(kernel, aio=None):
    scene = Scene(kernel, aio)
    _, answer = scene.race(lambda: kernel.io_destroy(scene.ctx_id), scene.cancel)
    assert answer in (-errno.EINVAL, -errno.EINPROGRESS)
    scene.settle()
    scene.check_clean()


def submit_against_wake(kernel, aio=None):
    scene = Scene(kernel, aio, armed=False)
    _, submitted = scene.race(scene.write, scene.submit)
    assert submitted == 1
    assert scene.events() == [EPOLLIN], "the write was missed"
    scene.check_clean()


def submit_against_destroy(kernel, aio=None):
    scene = Scene(kernel, aio, armed=False)
    answer, _ = scene.race(scene.submit, scene.destroy)
    assert answer in (1, -errno.EINVAL)
    scene.settle()
    scene.check_clean()


def wait_against_wake(kernel, aio=None):
    scene = Scene(kernel, aio)
    _, answer = scene.race(scene.write, scene.wait)
    assert answer == [EPOLLIN]
    assert scene.events() == []
    scene.check_clean()


def wait_against_destroy(kernel, aio=None):
    scene = Scene(kernel, aio)
    answer, _ = scene.race(scene.wait, scene.destroy)
    assert answer == -errno.EINVAL
    scene.settle()
    scene.check_clean()


def stale_wake_then_data(kernel, aio=None):
    """A byte is written and read by another task, then one more comes: it must not be missed."""
    scene = Scene(kernel, aio)

    def other():
        scene.write()
        kernel.read(scene.reader, 1)
        scene.write()

    scene.race(other)
    assert scene.events() == [EPOLLIN], "the second write was missed"
    scene.check_clean()


SCENARIOS = [
    cancel_against_wake,
    two_cancels_against_wake,
    close_against_wake,
    close_of_the_writer_against_cancel,
    destroy_against_wake,
    destroy_against_cancel,
    submit_against_wake,
    submit_against_destroy,
    wait_against_wake,
    wait_against_destroy,
    stale_wake_then_data,
]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_every_interleaving(scenario):
    # Three racers have many more interleavings, and so have two that both sleep.
    many = scenario in (two_cancels_against_wake, wait_against_destroy)
    found = explore(scenario, bound=1 if many else 2)
    assert found.failure is None, f"choices {found.choices}: {found.failure!r}"
    assert found.runs > 1


class WithoutReference(Aio):
    """Cancellation before V7: it does not hold the request while it takes the queue's lock."""

    def claim(self, req):
        req.flags |= AIO_IOCB_CANCELLED
        req.ctx.remove_active(req)

    def cancel(self, ctx, iocb):
        with ctx.ctx_lock:
            found = next((req for req in ctx.active_reqs if req.user_iocb is iocb), None)
            if found is None:
                raise OSError(errno.EINVAL, "none")
            self.claim(found)
        self.aio_poll_cancel(found)


class WithoutClaim(Aio):
    """Cancellation before V7: both the wake-up and the canceller think the request is theirs."""

    def aio_poll_cancel(self, req):
        mine = req.wait.queued
        with req.head.lock:
            if req.wait.queued:
                req.head.remove_wait_queue_locked(req.wait)
        if mine:
            self.sched.queue_work(lambda: self.complete_poll(req, 0))

    def aio_poll_wake(self, req, entry, key):
        entry.head.remove_wait_queue_locked(entry)
        self.sched.queue_work(lambda: self.aio_poll_complete_work(req, EPOLLIN))
        return 1


class Rechecking(Aio):
    """The missed wake-up of 363bee27: the request is off the queue while a kworker checks."""

    def aio_poll_wake(self, req, entry, key):
        if key and not key & req.events:
            return 0
        head = entry.head
        head.remove_wait_queue_locked(entry)

        def recheck():
            mask = vfs_poll_mask(req.file, req.events) & req.events
            if mask or req.flags & AIO_IOCB_CANCELLED:
                self.aio_poll_complete_work(req, mask)
            else:
                head.add_wait_queue(entry)

        self.sched.queue_work(recheck)
        return 1


class CheckBeforeQueue(Aio):
    """Checks, and only then takes the lock to enqueue."""

    def arm(self, req, head, entry):
        mask = vfs_poll_mask(req.file, req.events) & req.events
        with req.ctx.ctx_lock, head.lock:
            if not mask:
                head.add_wait_queue_locked(entry)
                req.ctx.active_reqs.append(req)
        return mask


@pytest.mark.parametrize(
    ("scenario", "broken"),
    [
        (cancel_against_wake, WithoutReference),
        (cancel_against_wake, WithoutClaim),
        (stale_wake_then_data, Rechecking),
        (submit_against_wake, CheckBeforeQueue),
    ],
    ids=lambda value: value.__name__,
)
def test_the_search_catches_a_broken_kernel(scenario, broken):
    found = explore(lambda kernel: scenario(kernel, broken), bound=2)
    assert found.failure is not None, f"{found.runs} interleavings and no failure"


def test_a_found_interleaving_can_be_replayed():
    def scenario(kernel):
        submit_against_wake(kernel, CheckBeforeQueue)

    found = explore(scenario)
    again = explore(scenario)
    assert (found.runs, found.choices) == (again.runs, again.choices)
    with pytest.raises(AssertionError, match="the write was missed"):
        replay(scenario, found.choices)


def test_a_search_cut_short_is_an_error():
    with pytest.raises(RuntimeError, match="more than 3"):
        explore(cancel_against_wake, limit=3)


def test_tasks_that_all_sleep_are_reported():
    kernel = Kernel()
    reader, _ = kernel.pipe2()
    with pytest.raises(RuntimeError, match="no timer is armed"):
        kernel.read(reader, 1)
    kernel.halt()


def test_the_search_catches_a_context_that_no_call_holds():
    """io_destroy must wait for io_submit before it cancels, or it misses the poll being armed."""

    def scenario(kernel):
        kernel.ioctx = lambda ctx_id: contextlib.nullcontext(kernel.lookup_ioctx(ctx_id))
        submit_against_destroy(kernel)

    assert isinstance(explore(scenario, bound=1).failure, Deadlock)
