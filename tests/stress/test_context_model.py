"""Random submits, cancels, closes and reaps against a small model of the events to come.

The model knows no kernel: it keeps each request with its mask and any successful cancel, and
compares every event with that.  The readiness of a file comes from poll(2).
"""

import errno
import os
import select
import socket
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.support.descriptors import rings

from aiopoll import Context, Iocb, SubmitError

ALWAYS = select.POLLERR | select.POLLHUP
MASKS = [
    0,
    select.POLLIN,
    select.POLLOUT,
    select.POLLPRI,
    select.POLLIN | select.POLLOUT,
    select.POLLIN | select.POLLPRI | select.POLLRDHUP,
    0xFFFF,
]


class File:
    """One end of a pipe or socketpair, or an eventfd."""

    def __init__(self, kind: str, fd: int) -> None:
        self.kind, self.fd, self.open = kind, fd, True

    def poll(self, events: int) -> int:
        poller = select.poll()
        poller.register(self.fd, events)
        return dict(poller.poll(0)).get(self.fd, 0)

    def close(self) -> None:
        if self.open:
            self.open = False
            os.close(self.fd)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.fd}>"


class Request:
    """The model's record of one submission."""

    def __init__(self, file: File, asked: int) -> None:
        self.file, self.asked = file, asked
        self.iocb = Iocb.poll(file.fd, asked, data=self)
        self.in_flight = 0
        self.cancelled = 0


class ContextModel(RuleBasedStateMachine):
    """Driven by Hypothesis."""

    user_ring = True
    files = Bundle("files")
    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.rings_before = rings()
        self.all_files: list[File] = []
        self.expected: Counter[Request] = Counter()
        self.counts = {"submitted": 0, "completed": 0, "cancelled": 0}
        self.context = Context(16, user_ring=self.user_ring)

    def keep(self, *files: File) -> Any:
        self.all_files += files
        return files

    # -- files

    @initialize(target=requests)
    def start_with_one_of_each(self) -> Any:
        # Without these most random sequences would never get as far as an event.
        files = (self.make_pipe_reader(), self.make_eventfd(), self.make_socketpair())
        masks = (select.POLLIN, select.POLLIN, select.POLLIN | select.POLLPRI)
        return multiple(*map(Request, files, masks))

    @rule(target=files)
    def make_pipe_reader(self) -> File:
        reader, writer = os.pipe2(os.O_NONBLOCK)
        reading, _ = self.keep(File("pipe reader", reader), File("pipe writer", writer))
        return reading

    @rule(target=files)
    def make_eventfd(self) -> File:
        return self.keep(File("eventfd", os.eventfd(0, os.EFD_NONBLOCK)))[0]

    @rule(target=files)
    def make_socketpair(self) -> File:
        left, right = socket.socketpair(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        return self.keep(File("socket", left.detach()), File("socket", right.detach()))[0]

    def other_end(self, file: File) -> File:
        """The file that makes `file` ready when it is written to."""
        if file.kind == "eventfd":
            return file
        return self.all_files[self.all_files.index(file) + 1]

    @rule(file=files)
    def make_ready(self, file: File) -> None:
        self.write_to(self.other_end(file))

    @rule(request=requests)
    def submit_then_make_ready(self, request: Request) -> None:
        self.submit([request])
        self.write_to(self.other_end(request.file))

    def write_to(self, other: File) -> None:
        if other.open:
            try:
                os.write(other.fd, (1).to_bytes(8, "little"))
            except (BlockingIOError, BrokenPipeError):
                pass

    @rule(file=files)
    def drain(self, file: File) -> None:
        if file.open:
            try:
                os.read(file.fd, 4096)
            except (BlockingIOError, ConnectionResetError):
                pass

    @rule(file=files)
    def close_file(self, file: File) -> None:
        file.close()

    @rule(file=files)
    def close_other_end(self, file: File) -> None:
        self.other_end(file).close()

    # -- requests

    @rule(target=requests, file=files, asked=st.sampled_from(MASKS))
    def make_request(self, file: File, asked: int) -> Request:
        return Request(file, asked)

    @rule(batch=st.lists(requests, min_size=1, max_size=6))
    def submit(self, batch: list[Request]) -> None:
        # A closed number may be another file's by now: those requests are not ours to make.
        batch = [request for request in batch if request.file.open]
        refusal = None
        try:
            taken = self.context.submit([request.iocb for request in batch])
        except SubmitError as error:
            taken, refusal = error.index, error.errno
        if refusal is None:
            assert taken == len(batch)
        else:
            # Only for want of a slot: all of these files can be polled.
            assert refusal == errno.EAGAIN
            assert taken < len(batch)
            assert sum(self.expected.values()) + taken >= 16
        for request in batch[:taken]:
            self.expected[request] += 1
            request.in_flight += 1
        self.counts["submitted"] += taken

    @rule(request=requests)
    def submit_a_closed_descriptor_last(self, request: Request) -> None:
        before = self.context.statistics().in_flight
        with pytest.raises(SubmitError) as caught:
            self.context.submit([Iocb.poll(2**31 - 1, request.asked)])
        assert caught.value.index == 0
        assert self.context.statistics().in_flight == before

    @rule(request=requests)
    def cancel(self, request: Request) -> None:
        refusal: Exception | None = None
        try:
            self.context.cancel(request.iocb)
        except (OSError, ValueError) as error:
            refusal = error
        if isinstance(refusal, ValueError):
            assert request.in_flight == 0
        elif isinstance(refusal, OSError):
            assert refusal.errno == errno.EINVAL
            assert request.in_flight > 0
        else:
            assert request.in_flight > request.cancelled
            request.cancelled += 1
            self.counts["cancelled"] += 1

    # -- events

    def take(self, event: Any) -> None:
        """Compares one event with the model."""
        request = event.data
        assert event.obj is request.iocb
        assert self.expected[request] > 0, "an event too many"
        assert event.res2 == 0
        assert event.res >= 0
        assert event.res & ~(request.asked | ALWAYS) == 0, "bits that were not requested"
        if event.res & select.POLLPRI:
            pytest.fail("no file here ever has priority data")
        if event.res == 0 and request.cancelled:
            request.cancelled -= 1
        self.expected[request] -= 1
        request.in_flight -= 1
        self.counts["completed"] += 1

    @rule(max_nr=st.one_of(st.none(), st.integers(1, 5)))
    def reap_what_is_there(self, max_nr: int | None) -> None:
        events = self.context.reap(0, max_nr)
        assert max_nr is None or len(events) <= max_nr
        for event in events:
            self.take(event)

    @precondition(lambda self: any(request.cancelled for request in self.expected))
    @rule()
    def reap_waits_for_the_cancelled(self) -> None:
        (first, *rest) = self.context.reap(1)
        for event in (first, *rest):
            self.take(event)

    @rule()
    def all_that_is_ready_comes(self) -> None:
        ready = sum(
            count
            for request, count in self.expected.items()
            if count and request.file.open and request.file.poll(request.asked)
        )
        if ready:
            for event in self.context.reap(1):
                self.take(event)

    @rule()
    def close_and_start_again(self) -> None:
        self.finish()
        self.context = Context(16, user_ring=self.user_ring)

    def finish(self) -> None:
        """Cancels all; each request must complete exactly once before the close."""
        for request, count in list(self.expected.items()):
            for _ in range(count):
                try:
                    self.context.cancel(request.iocb)
                except OSError:
                    pass  # it has completed, or was cancelled
        left = sum(self.expected.values())
        for event in self.context.reap(left):
            self.take(event)
        assert not any(self.expected.values())
        assert not any(request.cancelled for request in self.expected), "cancelled, but no 0 came"
        assert self.context.reap(0) == []
        self.context.close()
        self.expected.clear()
        self.counts = dict.fromkeys(self.counts, 0)
        assert rings() == self.rings_before

    @invariant()
    def counters_agree(self) -> None:
        statistics = self.context.statistics()
        assert statistics.in_flight == sum(self.expected.values())
        for name, count in self.counts.items():
            assert getattr(statistics, name) == count, name

    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            self.context.close()
            for file in self.all_files:
                file.close()


@pytest.mark.slow
def test_random_sequences_agree_with_the_model(user_ring):
    class Model(ContextModel):
        pass

    Model.user_ring = user_ring
    run_state_machine_as_test(
        Model,
        settings=settings(
            derandomize=True,
            database=None,
            deadline=None,  # close() sleeps in the kernel
            max_examples=25,
            stateful_step_count=50,
            print_blob=True,
            # Shrinking takes minutes, for each example closes a Context: add it to look into one.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
