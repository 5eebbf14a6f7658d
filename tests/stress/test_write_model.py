"""Random sequences on a stream transport against a small model of asyncio's contract.

The model keeps the bytes given to the transport and compares the peer's data with them.  It knows
the possible callbacks, their number and their order.  It reads no internal state of a transport.
asyncio's own loop runs the same sequences: where it fails, the model is wrong.
"""

import asyncio
import functools
import random
import select
import socket
import struct
import sys
from asyncio import selector_events
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import aiopoll

ENDINGS = ("close", "abort")
SIZES = st.sampled_from([0, 1, 2, 100, 1000, 4096, 9000, 20_000, 70_000])
TURNS_TO_SETTLE = 5
TRIES_TO_SETTLE = 3000  # a bound for hangs

# Bytes that show their place in the stream.
NOISE = random.Random(1).randbytes(1 << 20)


def only_if(condition: Callable[[Any], bool]) -> Callable[[Any], Any]:
    """A precondition that may depend on the kernel's results: Hypothesis's own must not."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def guarded(self: Any, **arguments: Any) -> None:
            if condition(self):
                function(self, **arguments)

        return guarded

    return decorate


class Talker:
    """The common part of both kinds of protocol; they report to the machine."""

    def __init__(self, machine: "TransportModel") -> None:
        self.machine = machine

    def connection_made(self, transport: Any) -> None:
        self.machine.callback("made")
        self.machine.transport = transport

    def pause_writing(self) -> None:
        self.machine.callback("pause")

    def resume_writing(self) -> None:
        self.machine.callback("resume")

    def eof_received(self) -> bool:
        self.machine.callback("eof")
        return self.machine.keep_open_after_eof

    def connection_lost(self, exc: Exception | None) -> None:
        self.machine.callback("lost")


class PlainTalker(Talker, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.machine.hear(data)


class BufferedTalker(Talker, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint: int) -> bytearray:
        self.buffer = bytearray(3000)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert 0 < nbytes <= len(self.buffer)
        self.machine.hear(bytes(self.buffer[:nbytes]))


class TransportModel(RuleBasedStateMachine):
    """Driven by Hypothesis."""

    make_loop: Callable[[], asyncio.AbstractEventLoop]
    family = socket.AF_UNIX

    def __init__(self) -> None:
        super().__init__()
        self.loop = type(self).make_loop()
        self.reports: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.reports.append(context))
        self.transport: Any = None
        self.told: list[str] = []
        self.failures: list[str] = []
        self.paused = False  # by pause_writing
        self.reading = True
        self.closing = self.aborted = self.eof_written = False
        self.ended_by_peer = self.peer_has_ended = False
        self.steps = 0
        self.keep_open_after_eof = False
        self.next_action: str | None = None
        self.given = bytearray()  # to the transport
        self.received = 0  # of it, by the peer
        self.peer_sees_end = False
        self.said = bytearray()  # by the peer
        self.heard = 0  # of it, by our protocol

    # -- the two ends

    @initialize(buffered=st.booleans(), low=st.sampled_from([None, 0, 2000]))
    def connect(self, buffered: bool, low: int | None) -> None:
        if self.family == socket.AF_UNIX:
            ours, theirs = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                theirs = socket.create_connection(listener.getsockname())
                ours, _ = listener.accept()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        if self.family == socket.AF_INET:  # segments over lo are 64 KiB: less makes TCP wait
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
        ours.setblocking(False)
        theirs.setblocking(False)
        self.theirs = theirs
        kind = BufferedTalker if buffered else PlainTalker
        self.loop.run_until_complete(
            self.loop.create_connection(lambda: kind(self), sock=ours)  # type: ignore[abstract]
        )
        if low is not None:
            self.transport.set_write_buffer_limits(high=low + 6000, low=low)

    def callback(self, name: str) -> None:
        """A callback other than data; failures are kept, for the transport would swallow them."""
        allowed = {
            "made": not self.told,
            "pause": not self.paused,
            "resume": self.paused,
            "eof": "eof" not in self.told and not self.aborted,
            "lost": "made" in self.told,
        }[name]
        if not allowed:
            self.failures.append(f"{name} after {self.told}")
        if "lost" in self.told:
            self.failures.append(f"{name} after the connection was lost")
        self.told.append(name)
        if name in ("pause", "resume"):
            self.paused = name == "pause"
            low, high = self.transport.get_write_buffer_limits()
            size = self.transport.get_write_buffer_size()
            if not (size > high if self.paused else size <= low):
                self.failures.append(f"{name} with {size} bytes, limits {low} and {high}")
        if name == "eof":
            self.ended_by_peer = True
            if not self.keep_open_after_eof:
                self.closing = True
        if name == "lost":
            self.closing = True
        elif name in ("resume", "eof"):
            self.act()

    def hear(self, data: bytes) -> None:
        if not self.reading:
            self.failures.append("data while reading was paused")
        if "lost" in self.told or "eof" in self.told or self.aborted:
            self.failures.append(f"data after {self.told}")
        if self.said[self.heard : self.heard + len(data)] != data:
            self.failures.append("what was heard is not what was said")
        self.heard += len(data)
        self.act()

    def act(self) -> None:
        """Does the requested actions within a callback."""
        action, self.next_action = self.next_action, None
        if action == "close":
            self.transport.close()
            self.closing = True
        elif action == "abort":
            self.transport.abort()
            self.closing = self.aborted = True
        elif action == "write" and self.may_write:
            self.give([3000], "bytes", False)
        elif action == "pause" and not self.closing and "eof" not in self.told:
            self.transport.pause_reading()
            self.reading = False

    # -- writing

    @property
    def may_write(self) -> bool:
        return not (self.closing or self.eof_written)

    def give(self, sizes: list[int], kind: str, as_lines: bool) -> None:
        start = len(self.given)
        pieces = []
        for size in sizes:
            at = start % (len(NOISE) - 300_000)
            piece = NOISE[at : at + size]
            start += len(piece)
            pieces.append(piece)
        self.given += b"".join(pieces)
        types = {"bytes": bytes, "bytearray": bytearray, "memoryview": memoryview}
        converted: list[Any] = [types[kind](piece) for piece in pieces]
        if as_lines:
            self.transport.writelines(iter(converted))
        else:
            for piece in converted:
                self.transport.write(piece)
        for piece in converted:
            if kind == "bytearray":  # is the caller's again
                piece[:] = bytes(len(piece))

    @rule(
        sizes=st.lists(SIZES, max_size=4),
        kind=st.sampled_from(["bytes", "bytearray", "memoryview"]),
        as_lines=st.booleans(),
    )
    @only_if(lambda self: self.may_write)
    def write(self, sizes: list[int], kind: str, as_lines: bool) -> None:
        self.give(sizes, kind, as_lines)

    @rule(count=st.integers(1, 300))
    @only_if(lambda self: self.may_write)
    def write_many_small_ones(self, count: int) -> None:
        self.give([7] * count, "bytes", False)

    @rule()
    @only_if(lambda self: self.may_write and self.steps > 10)
    def write_eof(self) -> None:
        # A transport that has failed, but has not reported it yet, ignores the call.
        self.eof_written = not self.transport.is_closing()
        self.transport.write_eof()

    @rule()
    @only_if(lambda self: self.eof_written)
    def write_after_eof(self) -> None:
        self.transport.write_eof()  # once more does nothing
        if not self.closing:
            with pytest.raises(RuntimeError):
                self.transport.write(b"too late")

    @rule()
    @only_if(lambda self: "lost" in self.told)
    def write_when_lost(self) -> None:
        with self.after_the_end():
            if not self.eof_written:
                self.transport.write(b"nobody is there")
        with self.after_the_end():
            self.transport.close()
        with self.after_the_end():
            self.transport.abort()

    @property
    def is_asyncios(self) -> bool:
        """Whether the transport is asyncio's own, or derived from it.

        After its end that may fail with AttributeError, for its loop and its socket are None.  This
        happens in abort() if close() had data left to send, and when resume_writing() ends it.
        """
        return isinstance(self.transport, selector_events._SelectorTransport)  # type: ignore[attr-defined]

    def after_the_end(self) -> AbstractContextManager[None]:
        forgiven = self.is_asyncios and "lost" in self.told
        return suppress(AttributeError) if forgiven else nullcontext()

    @rule(low=st.sampled_from([0, 1000, 50_000]), more=st.sampled_from([0, 1, 20_000]))
    @only_if(lambda self: not self.closing and not self.paused)
    def set_limits(self, low: int, more: int) -> None:
        self.transport.set_write_buffer_limits(high=low + more, low=low)
        assert self.transport.get_write_buffer_limits() == (low, low + more)

    # -- reading

    # Not after the end: asyncio's own transport reports it again when reading is resumed.
    @rule()
    @only_if(lambda self: not self.closing and "eof" not in self.told)
    def pause_or_resume_reading(self) -> None:
        if self.reading:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()
        self.reading = not self.reading
        assert self.transport.is_reading() == (self.reading and not self.transport.is_closing())

    @rule(action=st.sampled_from(["close", "abort", "write", "write", "pause"]))
    def in_the_next_callback(self, action: str) -> None:
        self.next_action = action

    # -- the peer

    @rule(size=st.sampled_from([1, 1000, 50_000, 500_000]))
    def peer_reads(self, size: int) -> None:
        while size > 0 and not self.peer_sees_end:
            try:
                data = self.theirs.recv(size)
            except BlockingIOError:
                return
            except (ConnectionError, OSError):
                self.peer_sees_end = True
                assert self.aborted or self.ended_by_peer or self.closing
                return
            if not data:
                self.peer_sees_end = True
                assert self.closing or self.eof_written
                assert self.received == len(self.given) or self.may_lose, "an end in the middle"
                return
            assert self.given.startswith(data, self.received), "the data is wrong, or missing"
            self.received += len(data)
            size -= len(data)

    @rule(size=SIZES)
    @only_if(lambda self: not self.peer_has_ended and not self.peer_sees_end)
    def peer_says(self, size: int) -> None:
        try:
            sent = self.theirs.send(NOISE[-size:])
        except (BlockingIOError, ConnectionError):
            return
        self.said += NOISE[-size:][:sent]

    @rule(how=st.sampled_from(["half", "half", "half", "close", "reset"]), keep=st.booleans())
    @only_if(lambda self: not self.peer_has_ended and self.steps > 10)
    def peer_ends(self, how: str, keep: bool) -> None:
        self.peer_has_ended = True
        self.keep_open_after_eof = keep
        if how == "half":
            try:
                self.theirs.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            return
        self.ended_by_peer = self.peer_sees_end = True
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.theirs.close()

    # -- the loop, and the end

    @property
    def may_lose(self) -> bool:
        """Linux resets a connection that is closed with data unread, and drops the rest."""
        unread = self.closing and self.heard < len(self.said)
        return self.aborted or self.ended_by_peer or unread

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    @rule(count=st.integers(1, 4))
    def turns(self, count: int) -> None:
        self.turn(count)

    @rule(count=st.sampled_from([1, 10, 100, 1000]))
    def peer_reads_as_it_comes(self, count: int) -> None:
        for _ in range(count):
            before = self.received
            self.peer_reads(10_000)
            self.turn()
            if self.received == before:
                break

    @rule(how=st.sampled_from(ENDINGS))
    @only_if(lambda self: self.steps > 20)
    def end(self, how: str) -> None:
        self.end_now(how)

    def end_now(self, how: str) -> None:
        with self.after_the_end():
            getattr(self.transport, how)()
        self.closing = True
        assert self.transport.is_closing()
        if how == "abort":
            self.aborted = True
            assert self.transport.get_write_buffer_size() == 0
            self.turn(2)
            assert "lost" in self.told

    @invariant()
    def agrees(self) -> None:
        if self.transport is None:
            return
        self.steps += 1
        assert not self.failures, self.failures
        size = self.transport.get_write_buffer_size()
        assert 0 <= size <= len(self.given) - self.received
        if self.transport.is_closing():
            return
        low, high = self.transport.get_write_buffer_limits()
        if self.paused:
            assert size > low
        elif "lost" not in self.told:
            assert size <= high

    def settle(self) -> None:
        """Ends it as a program would, and checks the final state."""
        if not self.closing:
            self.end_now("close")
        self.next_action = None
        poller = select.poll()
        if not self.peer_sees_end:
            poller.register(self.theirs, select.POLLIN)
        for _ in range(TRIES_TO_SETTLE):
            self.turn()
            if "lost" in self.told and self.peer_sees_end:
                break
            if not self.peer_sees_end:
                poller.poll(10)  # TCP takes its time where windows are small
                self.peer_reads(1 << 20)
        assert "lost" in self.told, "connection_lost never came"
        assert self.peer_sees_end, "the peer sees no end"
        self.turn(TURNS_TO_SETTLE)
        assert not self.failures, self.failures
        assert self.told.count("lost") == self.told.count("made") == 1
        assert self.told.count("eof") <= 1
        assert self.transport.get_write_buffer_size() == 0
        assert self.received == len(self.given) or self.may_lose, "bytes were lost"
        if self.is_asyncios:
            kinds = (type(report.get("exception")) for report in self.reports)
            assert all(kind is AttributeError for kind in kinds)
        else:
            assert not self.reports

    def teardown(self) -> None:
        try:
            if self.transport is not None:
                self.settle()
        finally:
            if self.transport is not None:
                with self.after_the_end():
                    self.transport.abort()
                self.turn(2)
                self.theirs.close()
            self.loop.close()


def asyncios(**options: Any) -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop()


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["aio", "epoll", "nr_events=1", "asyncio"])
def test_random_sequences_agree_with_the_model(
    kind: str, family: socket.AddressFamily, soak: Callable[[int], int]
) -> None:
    options: dict[str, Any] = {
        "aio": {"backend": "aio"},
        "epoll": {"backend": "epoll"},
        "nr_events=1": {"backend": "aio", "nr_events": 1},
        "asyncio": {},
    }[kind]
    if kind == "asyncio" and sys.version_info >= (3, 12):
        pytest.skip("skips.toml: asyncio's own transport and writelines() of nothing")
    factory = asyncios if kind == "asyncio" else aiopoll.new_event_loop

    class Model(TransportModel):
        pass

    Model.make_loop = staticmethod(lambda: factory(**options))  # type: ignore[assignment]
    Model.family = family
    run_state_machine_as_test(
        Model,
        settings=settings(
            derandomize=soak(1) == 1,
            database=None,
            deadline=None,
            max_examples=soak(25 if family == socket.AF_UNIX else 8),
            stateful_step_count=70,
            print_blob=True,
            # Shrinking takes minutes, for each example closes a loop: add it to look into one.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
