"""The compiled TLS protocol and asyncio's do the same, over a wire made of memory."""

import asyncio
import contextlib
import ssl
from asyncio.sslproto import SSLProtocol
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tests.support.tls import TLS_VERSIONS, tls_contexts

import aiopoll
from aiopoll.loop.transports import tls


class Oracle(SSLProtocol):
    """asyncio's, but it drops data that comes after the transport was closed."""

    def _do_shutdown(self) -> None:
        with contextlib.suppress(ssl.SSLError):
            while not self._eof_received and self._sslobj.read(65536):  # type: ignore[attr-defined]
                pass
        super()._do_shutdown()  # type: ignore[misc]


PROTOCOLS: tuple[Any, ...] = (Oracle, tls.TLSProtocol)


class Wire(asyncio.Transport):
    """The transport of a TLS protocol: holds its data until the test moves it to the other side."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: Any, limit: int) -> None:
        super().__init__()
        self.loop, self.protocol, self.limit = loop, protocol, limit
        self.held = bytearray()
        self.full = self.ending = self.reading_paused = self.eof_told = self.lost = False

    def write(self, data: Any) -> None:
        if self.lost or self.ending:
            return
        self.held += data
        if len(self.held) > self.limit and not self.full:
            self.full = True
            self.protocol.pause_writing()

    def take(self, count: int) -> bytes:
        taken = bytes(self.held[:count])
        del self.held[:count]
        if self.full and len(self.held) <= self.limit // 4:
            self.full = False
            self.protocol.resume_writing()
        if self.ending and not self.held:
            self.lose(None)
        return taken

    def lose(self, error: Any) -> None:
        if not self.lost:
            self.lost = True
            self.loop.call_soon(self.protocol.connection_lost, error)

    def close(self) -> None:
        self.ending = True
        if not self.held:
            self.lose(None)

    def _force_close(self, error: Any) -> None:
        self.ending = True
        self.held.clear()
        self.lose(error)

    def abort(self) -> None:
        self._force_close(None)

    def is_closing(self) -> bool:
        return self.ending

    def pause_reading(self) -> None:
        self.reading_paused = True

    def resume_reading(self) -> None:
        self.reading_paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class App(asyncio.Protocol):
    """Records its callbacks; replies to data with given actions."""

    def __init__(self, answers: list[str]) -> None:
        self.seen: list[Any] = []
        self.answers = list(answers)
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.seen.append("made")

    def data_received(self, data: bytes) -> None:
        self.seen.append(bytes(data))
        if self.answers:
            act(self.transport, self.answers.pop(0), bytes(data))

    def pause_writing(self) -> None:
        self.seen.append("pause")

    def resume_writing(self) -> None:
        self.seen.append("resume")

    def eof_received(self) -> None:
        self.seen.append("eof")

    def connection_lost(self, error: Any) -> None:
        self.seen.append(("lost", type(error)))


class BufferedApp(App, asyncio.BufferedProtocol):
    size = 100

    def get_buffer(self, hint: int) -> Any:
        self.buffer = bytearray(self.size)
        return memoryview(self.buffer)

    def buffer_updated(self, count: int) -> None:
        self.data_received(self.buffer[:count])


def act(transport: Any, action: str, data: bytes) -> None:
    """The actions of an application on its transport; one letter each."""
    for letter in action:
        if transport._ssl_protocol is None:  # closed twice: asyncio's methods raise then
            break
        if letter == "w":
            transport.write(data[:50])
        elif letter == "m":  # a buffer that changes after
            changing = bytearray(data[:50])
            transport.write(changing)
            changing[:] = bytes(len(changing))
        elif letter == "l":
            transport.writelines([data[:7], data[7:9], bytearray(data[9:30])])
        elif letter == "b":
            transport.write(data * 400)
        elif letter == "s":
            transport.get_write_buffer_size()
        elif letter == "p":
            transport.pause_reading()
        elif letter == "r":
            transport.resume_reading()
        elif letter == "c":
            transport.close()
        elif letter == "a":
            transport.abort()


class Pair:
    """Two sides and the wires between them."""

    def __init__(self, made: Any, version: str, buffered: bool, limits: Any, answers: Any) -> None:
        loop = asyncio.get_running_loop()
        self.loop = loop
        app = BufferedApp if buffered else App
        self.apps = [app(answers), app([])]
        self.tls: list[Any] = []
        for i, context in enumerate(tls_contexts(version)):
            name = "localhost" if i else None
            done = loop.create_future()
            done.add_done_callback(lambda done: done.cancelled() or done.exception())
            self.tls.append(made(loop, self.apps[i], context, done, not i, name))
        self.wires = [Wire(loop, protocol, limits[0]) for protocol in self.tls]
        for protocol, wire in zip(self.tls, self.wires, strict=True):
            protocol.connection_made(wire)
        while "made" not in self.apps[0].seen or "made" not in self.apps[1].seen:
            self.move(0, 10**6)
            self.move(1, 10**6)
        for app in self.apps:
            app.transport.set_write_buffer_limits(limits[1])

    def move(self, side: int, count: int) -> None:
        """Moves bytes that this side has written to the other one."""
        to, wire = 1 - side, self.wires[side]
        if self.wires[to].lost or (self.wires[to].reading_paused and not wire.lost):
            return
        data = memoryview(wire.take(count))
        while data:
            buffer = self.tls[to].get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            self.tls[to].buffer_updated(size)
            data = data[size:]
            if self.wires[to].lost:
                return
        if wire.lost and not self.wires[to].eof_told and not self.wires[to].lost:
            self.wires[to].eof_told = True
            if not self.tls[to].eof_received():
                self.wires[to].close()


async def history(
    made: Any, version: str, buffered: bool, limits: Any, answers: Any, steps: Any
) -> list[list[Any]]:
    """The callbacks of the applications."""
    loop = asyncio.get_running_loop()
    told: list[str] = []
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))
    pair = Pair(made, version, buffered, limits, answers)
    data = bytes(range(100))
    for side, step in steps:
        if isinstance(step, int):
            pair.move(side, step)
        else:
            act(pair.apps[side].transport, step, data) if not pair.wires[side].lost else None
        for _ in range(3):
            await asyncio.sleep(0)
    for app, wire in zip(pair.apps, pair.wires, strict=True):
        if not wire.lost and app.transport._ssl_protocol is not None:
            app.transport.resume_reading()
    quiet = 0
    while quiet < 60:  # a record comes in a few rounds
        seen = [len(app.seen) for app in pair.apps]
        for side in (0, 1):
            pair.move(side, 3000)
            await asyncio.sleep(0)
        quiet = quiet + 1 if seen == [len(app.seen) for app in pair.apps] else 0
    for app, wire in zip(pair.apps, pair.wires, strict=True):
        if not wire.lost:
            app.seen.append("still open")
            wire.abort()
    for _ in range(5):
        await asyncio.sleep(0)
    return [*(app.seen for app in pair.apps), told]


def data_of(seen: list[Any]) -> bytes:
    return b"".join(part for part in seen if isinstance(part, bytes))


def told_of(seen: list[Any]) -> list[Any]:
    return [told for told in seen if not isinstance(told, bytes) and told not in FLOW_CONTROL]


def check_same(expected: list[list[Any]], found: list[list[Any]], cut: bool) -> None:
    """Checks that both are the same, but for the ends of records and their effects.

    cut: a side may close or abort, so that later data depends on which records are whole.
    """
    for one, other in zip(expected, found, strict=True):
        assert cut or told_of(one) == told_of(other)
        data, others_data = data_of(one), data_of(other)
        assert data == others_data or (
            cut and (data.startswith(others_data) or others_data.startswith(data))
        )


FLOW_CONTROL = ("pause", "resume")
ACTIONS = st.text("wwmlbspr", max_size=4) | st.text("wmlbsprca", max_size=4)
ONE_RECORD_EACH = st.text("wmbspr", max_size=4) | st.text("wmbsprca", max_size=4)
STEPS = st.tuples(st.integers(0, 1), ACTIONS | st.integers(1, 400) | st.just(10**6))
EXACT_STEPS = st.tuples(st.integers(0, 1), ONE_RECORD_EACH | st.integers(1, 400) | st.just(10**6))
LIMITS = st.tuples(st.sampled_from([0, 40, 3000, 10**6]), st.sampled_from([1, 60, 10**5]))


@pytest.mark.slow
@pytest.mark.skipif(not tls.compiled, reason="asyncio's SSLProtocol is another one here")
@pytest.mark.parametrize("buffered", [False, True], ids=["protocol", "buffered"])
@pytest.mark.parametrize("version", TLS_VERSIONS)
def test_compiled_protocol_behaves_as_asyncios(version: str, buffered: bool) -> None:
    @settings(max_examples=200, deadline=None)
    @given(
        limits=LIMITS,
        answers=st.just([]) | st.lists(ACTIONS, max_size=3),
        steps=st.lists(STEPS, max_size=15) | st.lists(EXACT_STEPS, max_size=15),
    )
    # Data written in a callback, before each way to end it.
    @example(limits=(10**6, 10**5), answers=["wwc"], steps=[(1, "w"), (1, 10**6)])
    @example(limits=(10**6, 10**5), answers=["pwwc"], steps=[(1, "w"), (1, 10**6)])
    @example(limits=(10**6, 10**5), answers=["wmlb"], steps=[(1, "w"), (1, 10**6)])
    @example(limits=(10**6, 10**5), answers=["wsw"], steps=[(1, "w"), (1, 10**6)])
    # Records in parts, and many at once.
    @example(limits=(10**6, 10**5), answers=[], steps=[(1, "bwb"), (1, 30), (1, 400), (1, 10**6)])
    @example(limits=(10**6, 10**5), answers=[], steps=[(1, "wwww"), (1, 10**6), (1, "wc")])
    @example(limits=(40, 60), answers=[], steps=[(1, "www"), (1, 100), (1, 10**6), (1, "b")])
    def compare(limits: Any, answers: Any, steps: Any) -> None:
        actions = "".join(step for _, step in steps if isinstance(step, str))
        # We join lines into one record: a part of the bytes yields less data, and fewer replies.
        in_parts = any(isinstance(step, int) and step < 10**6 for _, step in steps)
        assume(not (answers and "l" in actions and in_parts))
        expected, found = (
            runner.run(history(made, version, buffered, limits, answers, steps))
            for made in PROTOCOLS
        )
        if answers or "l" in actions:  # parts that we join
            check_same(expected, found, cut=bool(set("ac") & set("".join(answers) + actions)))
        else:
            assert found == expected

    with asyncio.Runner(loop_factory=lambda: aiopoll.new_event_loop(backend="epoll")) as runner:
        compare()
