"""Datagrams that are taken in batches: what a program sees is what it sees of asyncio."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support.loops import LOOPS, OURS, until, where_datagrams_pause

import aiopoll
from aiopoll.loop.transports.datagram import DatagramTransport

HOSTS = ["127.0.0.1", "::1"]
COUNT = 24  # more than a batch
UDP_SEGMENT = 103


@pytest.fixture(params=[*OURS, "syscall-reap"])
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


class Recorder(asyncio.DatagramProtocol):
    """Records its callbacks; `then` is called for each datagram, after that."""

    transport: Any

    def __init__(self, then: Callable[["Recorder", bytes, Any], None] | None = None) -> None:
        self.events: list[Any] = []
        self.then = then

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.events.append((data, addr))
        if self.then:
            self.then(self, data, addr)

    def error_received(self, exc: Exception) -> None:
        self.events.append(type(exc))

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")


class Senders:
    """Some plain sockets, and what an endpoint that they have sent to has seen."""

    def __init__(self, host: str, count: int = 2) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socks = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(count)]
        for sock in self.socks:
            sock.settimeout(30)
            sock.bind((host, 0))
        self.names = [sock.getsockname() for sock in self.socks]

    def close(self) -> None:
        for sock in self.socks:
            sock.close()

    def drop_queued(self) -> None:
        for sock in self.socks:
            sock.setblocking(False)
            try:
                while True:
                    sock.recv(100_000)
            except BlockingIOError:
                sock.settimeout(30)

    def of(self, events: list[Any]) -> list[Any]:
        """The events, with the numbers of the senders in the place of their names."""
        return [
            (event[0], self.names.index(event[1])) if isinstance(event, tuple) else event
            for event in events
        ]


@pytest.fixture(params=HOSTS)
def senders(request: pytest.FixtureRequest) -> Iterator[Senders]:
    made = Senders(request.param)
    yield made
    made.close()


Then = Callable[[Recorder, bytes, Any], None]


async def endpoint(senders: Senders, then: Then | None = None, **options: Any) -> Recorder:
    """An endpoint, whose socket the loop has made and no other code has."""
    options = options or {"local_addr": (senders.names[0][0], 0)}
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_datagram_endpoint(lambda: Recorder(then), **options)
    return protocol


def flood(senders: Senders, recorder: Recorder, numbers: range = range(COUNT)) -> None:
    """Queues datagrams of several senders in the kernel."""
    where = recorder.transport.get_extra_info("sockname")
    for number in numbers:
        senders.socks[number % 3 % len(senders.socks)].sendto(b"%d" % number, where)


def numbers_of(events: list[Any]) -> list[int]:
    return [int(event[0]) for event in events if isinstance(event, tuple)]


def queued(transport: Any) -> bool:
    """Whether the kernel has a datagram queued; without asking the transport for its socket."""
    with socket.socket(fileno=os.dup(transport._sock_fd)) as same:
        try:
            same.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True


async def some_iterations(count: int = 2 * COUNT) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def same_as_asyncio(loop: Any, scenario: Callable[[], Any]) -> Any:
    """What the scenario returns on the loop, which is what it returns on asyncio's."""
    seen = loop.run_until_complete(scenario())
    oracle = LOOPS["asyncio"]()
    try:
        assert seen == oracle.run_until_complete(scenario())
    finally:
        oracle.close()
    return seen


async def ended(recorder: Recorder) -> None:
    recorder.transport.close()
    await until(lambda: recorder.events[-1:] == ["lost"])


def test_batch_is_taken_of_a_socket_of_the_loop(loop: Any, senders: Senders) -> None:
    left: list[bool] = []

    async def scenario() -> None:
        recorder = await endpoint(senders, lambda it, data, _: left.append(queued(it.transport)))
        assert type(recorder.transport) is DatagramTransport
        flood(senders, recorder, range(10))
        await until(lambda: len(recorder.events) == 10)
        await ended(recorder)

    loop.run_until_complete(scenario())
    assert left == [True] * 2 + [False] * 8


def test_order_and_senders_of_batches(loop: Any, senders: Senders) -> None:
    """Each is replied to: its address is that of the datagram at hand."""

    async def scenario() -> Any:
        recorder = await endpoint(senders, lambda it, data, addr: it.transport.sendto(data, addr))
        flood(senders, recorder)
        sizes = (0, 1, 1200, 60_000, 0, 9, 65_507, 3)
        await until(lambda: len(recorder.events) == COUNT)
        for size in sizes:
            sender = senders.socks[size % 2]
            sender.sendto(bytes(size), recorder.transport.get_extra_info("sockname"))
        await until(lambda: len(recorder.events) == COUNT + len(sizes))
        events = senders.of(recorder.events)
        for number in range(COUNT):
            reply = senders.socks[number % 3 % 2].recv(100)
            assert reply == b"%d" % number
        senders.drop_queued()
        await ended(recorder)
        return events

    seen = same_as_asyncio(loop, scenario)
    assert numbers_of(seen[:COUNT]) == list(range(COUNT))


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("at", [2, 5, 15, 16])
def test_batch_goes_on_after_an_exit(
    loop: Any, senders: Senders, error: type[BaseException], at: int
) -> None:
    """What the callback that raises leaves comes next, and what is newer after it."""

    def then(recorder: Recorder, data: bytes, addr: Any) -> None:
        if int(data) == at:
            raise error

    recorder = loop.run_until_complete(endpoint(senders, then))
    flood(senders, recorder)
    with pytest.raises(error):
        loop.run_until_complete(until(lambda: len(recorder.events) == COUNT))
    assert numbers_of(recorder.events) == list(range(at + 1))
    flood(senders, recorder, range(COUNT, COUNT + 3))
    loop.run_until_complete(until(lambda: len(recorder.events) == COUNT + 3))
    assert numbers_of(recorder.events) == list(range(COUNT + 3))
    loop.run_until_complete(ended(recorder))


@pytest.mark.parametrize("call", ["close", "abort"])
@pytest.mark.parametrize("at", [0, 1, 2, 6, 15, 17])
def test_closing_in_a_batch_ends_it(loop: Any, senders: Senders, call: str, at: int) -> None:
    def then(recorder: Recorder, data: bytes, addr: Any) -> None:
        if int(data) == at:
            getattr(recorder.transport, call)()

    async def scenario() -> Any:
        recorder = await endpoint(senders, then)
        flood(senders, recorder)
        await until(lambda: recorder.events[-1:] == ["lost"])
        await some_iterations()
        return senders.of(recorder.events)

    assert len(same_as_asyncio(loop, scenario)) == at + 2


@where_datagrams_pause
def test_pause_in_a_batch_keeps_the_rest(loop: Any, senders: Senders) -> None:
    def then(recorder: Recorder, data: bytes, addr: Any) -> None:
        if int(data) % 4 == 3:
            recorder.transport.pause_reading()

    async def scenario() -> Any:
        recorder = await endpoint(senders, then)
        flood(senders, recorder)
        while len(recorder.events) < COUNT:
            await until(lambda: not recorder.transport.is_reading())
            await some_iterations()
            recorder.events.append(len(recorder.events))
            recorder.transport.resume_reading()
        events = senders.of(recorder.events)
        await ended(recorder)
        return events

    same_as_asyncio(loop, scenario)


@where_datagrams_pause
def test_paused_rest_is_dropped_by_closing(loop: Any, senders: Senders) -> None:
    def then(recorder: Recorder, data: bytes, addr: Any) -> None:
        if int(data) == 5:
            recorder.transport.pause_reading()

    async def scenario() -> Any:
        recorder = await endpoint(senders, then)
        flood(senders, recorder)
        await until(lambda: len(recorder.events) == 6)
        await ended(recorder)
        return senders.of(recorder.events)

    assert len(same_as_asyncio(loop, scenario)) == 7


def test_new_protocol_gets_the_rest_of_a_batch(loop: Any, senders: Senders) -> None:
    async def scenario() -> Any:
        other = Recorder()
        recorder = await endpoint(
            senders, lambda it, data, _: data == b"4" and it.transport.set_protocol(other)
        )
        other.transport = recorder.transport
        flood(senders, recorder)
        await until(lambda: len(other.events) == COUNT - 5)
        seen = senders.of(recorder.events), senders.of(other.events)
        await ended(other)
        return seen

    same_as_asyncio(loop, scenario)


def test_exceptions_in_a_batch_are_reported_one_by_one(loop: Any, senders: Senders) -> None:
    def then(recorder: Recorder, data: bytes, addr: Any) -> None:
        if int(data) % 2:
            raise ZeroDivisionError(data)

    async def scenario() -> Any:
        reports: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reports.append(repr(context["exception"]))
        )
        recorder = await endpoint(senders, then)
        flood(senders, recorder)
        await until(lambda: len(recorder.events) == COUNT)
        await some_iterations(2)
        await ended(recorder)
        return reports

    assert len(same_as_asyncio(loop, scenario)) == COUNT // 2


@pytest.mark.parametrize("host", HOSTS)
def test_errors_come_where_asyncio_has_them(loop: Any, host: str) -> None:
    """The peer has gone: replies to what it had sent are refused, in the middle of a batch."""

    async def scenario() -> Any:
        senders = Senders(host, 1)
        recorder = await endpoint(
            senders,
            lambda it, data, _: it.transport.sendto(data) if int(data) % 5 == 4 else None,
            remote_addr=senders.names[0][:2],
        )
        flood(senders, recorder)
        senders.close()
        await until(lambda: len(numbers_of(recorder.events)) == COUNT)
        await some_iterations()
        events = senders.of(recorder.events)
        await ended(recorder)
        return events

    assert ConnectionRefusedError in same_as_asyncio(loop, scenario)


def test_program_that_asked_for_the_socket_reads_it(loop: Any, senders: Senders) -> None:
    """Nothing is taken from it, if it asks before or while the datagrams come."""

    async def scenario() -> Any:
        recorder = await endpoint(senders)
        same = recorder.transport.get_extra_info("socket").dup()

        def then(it: Recorder, data: bytes, addr: Any) -> None:
            it.events.append(same.recvfrom(100))

        recorder.then = then
        flood(senders, recorder)
        await until(lambda: len(recorder.events) == COUNT)
        events = senders.of(recorder.events)
        same.close()
        await ended(recorder)
        return events

    same_as_asyncio(loop, scenario)


def test_what_one_holder_leaves_another_gets(loop: Any, senders: Senders) -> None:
    async def scenario() -> Any:
        ours = socket.socket(senders.socks[0].family, socket.SOCK_DGRAM)
        ours.bind((senders.names[0][0], 0))
        with ours.dup() as other:
            recorder = await endpoint(
                senders, lambda it, data, _: data == b"6" and it.transport.close(), sock=ours
            )
            flood(senders, recorder)
            await until(lambda: recorder.events[-1:] == ["lost"])
            other.setblocking(False)
            left = [int(other.recv(100)) for _ in range(COUNT - 7)]
        return senders.of(recorder.events), left

    assert same_as_asyncio(loop, scenario)[1] == list(range(7, COUNT))


@pytest.mark.subprocess
def test_child_of_a_fork_delivers_no_batch(loop: Any, senders: Senders) -> None:
    """It is forked in the middle of a batch, whose rest is the parent's."""
    parent, reader, writer = os.getpid(), *os.pipe()
    heard: list[int] = []

    def then(recorder: Recorder, data: bytes, addr: Any) -> None:
        heard.append(int(data))
        if heard == list(range(6)):
            os.fork()
        elif os.getpid() != parent:
            os.write(writer, data)
            os._exit(1)

    async def scenario() -> None:
        recorder = await endpoint(senders, then)
        flood(senders, recorder, range(12))
        await until(lambda: len(recorder.events) == 12)
        flood(senders, recorder, range(12, COUNT))
        await until(lambda: queued(recorder.transport))
        recorder.then = lambda it, data, _: left.append(queued(it.transport))
        left: list[bool] = []
        await until(lambda: len(recorder.events) == COUNT)
        assert left == [True] * (COUNT - 13) + [False], "a batch, which the child may have wanted"
        assert numbers_of(recorder.events) == list(range(COUNT))
        await ended(recorder)

    try:
        loop.run_until_complete(scenario())
    finally:
        if os.getpid() != parent:
            os._exit(0)
    _, status = os.wait()
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert pipe.read() == b""
    assert status == 0


def in_segments(sock: socket.socket, data: bytes, size: int, where: Any) -> None:
    """Sends datagrams of one size, which a receiver may get as one."""
    sock.sendmsg([data], [(socket.IPPROTO_UDP, UDP_SEGMENT, size.to_bytes(2, "little"))], 0, where)


@pytest.fixture
def coalescing(senders: Senders) -> None:
    """The kernel has UDP_GRO and UDP_SEGMENT."""
    with socket.socket(senders.socks[0].family, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.IPPROTO_UDP, 104, 1)
            probe.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        except OSError:
            pytest.skip(reason="skips.toml: segments of datagrams")


SEGMENTED = [
    (100, 10),
    (1201, 1200),
    (64, 1),
    (50_000, 1200),
    (99, 100),
    (1000, 500),
    (63_000, 1000),
]


def send_segmented(senders: Senders, recorder: Recorder, mark: int) -> list[Any]:
    """Sends all of SEGMENTED, each by another sender than the one before; what is to be heard."""
    where = recorder.transport.get_extra_info("sockname")
    expected: list[Any] = []
    for which, (length, size) in enumerate(SEGMENTED):
        data = bytes((mark + which + position // size) % 256 for position in range(length))
        in_segments(senders.socks[which % 2], data, size, where)
        expected += [
            (data[position : position + size], which % 2) for position in range(0, length, size)
        ]
    return expected


@pytest.mark.usefixtures("coalescing")
@pytest.mark.parametrize("given", [False, True])
def test_coalesced_datagrams_are_split(loop: Any, senders: Senders, given: bool) -> None:
    async def scenario() -> None:
        options = {}
        if given:
            options["sock"] = socket.socket(senders.socks[0].family, socket.SOCK_DGRAM)
            options["sock"].bind((senders.names[0][0], 0))
        recorder = await endpoint(senders, **options)
        assert recorder.transport.receive_in_batches() is True
        expected = []
        for mark in range(3):
            expected += send_segmented(senders, recorder, mark)
            await until(lambda: len(recorder.events) == len(expected))  # noqa: B023
        assert senders.of(recorder.events) == expected
        # The program has promised not to read it.
        assert recorder.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_UDP, 104) == 1
        expected += send_segmented(senders, recorder, 3)
        await until(lambda: len(recorder.events) == len(expected))
        assert senders.of(recorder.events) == expected
        await ended(recorder)

    loop.run_until_complete(scenario())


@pytest.mark.usefixtures("coalescing")
def test_exit_in_a_coalesced_datagram_loses_nothing(loop: Any, senders: Senders) -> None:
    def then(recorder: Recorder, data: bytes, addr: Any) -> None:
        if data[0] in (3, 40):
            raise SystemExit

    async def make() -> Recorder:
        recorder = await endpoint(senders, then)
        assert recorder.transport.receive_in_batches()
        return recorder

    recorder = loop.run_until_complete(make())
    where = recorder.transport.get_extra_info("sockname")
    in_segments(senders.socks[0], bytes(range(60)), 1, where)
    for count in (4, 41):
        with pytest.raises(SystemExit):
            loop.run_until_complete(until(lambda: len(recorder.events) == 60))
        assert len(recorder.events) == count
    loop.run_until_complete(until(lambda: len(recorder.events) == 60))
    assert b"".join(data for data, _ in recorder.events) == bytes(range(60))
    loop.run_until_complete(ended(recorder))


def test_batches_without_coalescing_on_request(loop: aiopoll.EventLoop, senders: Senders) -> None:
    async def scenario() -> None:
        left: list[bool] = []
        ours = socket.socket(senders.socks[0].family, socket.SOCK_DGRAM)
        ours.bind((senders.names[0][0], 0))
        recorder = await endpoint(
            senders, lambda it, *_: left.append(queued(it.transport)), sock=ours
        )
        assert recorder.transport.receive_in_batches(coalesce=False) is False
        flood(senders, recorder, range(10))
        await until(lambda: len(recorder.events) == 10)
        assert left == [True] * 2 + [False] * 8
        await ended(recorder)
        assert recorder.transport.receive_in_batches() is False

    loop.run_until_complete(scenario())


def test_unix_datagrams_come_one_by_one(loop: aiopoll.EventLoop) -> None:
    """They may be longer than a slot of a batch."""

    async def scenario() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs:
            _, recorder = await loop.create_datagram_endpoint(Recorder, sock=ours)
            assert recorder.transport.receive_in_batches() is False  # type: ignore[attr-defined]
            sizes = [10, 20, 30, 40, 100_000]
            for size in sizes:
                theirs.send(bytes(size))
            await until(lambda: len(recorder.events) == len(sizes))
            assert [len(data) for data, _ in recorder.events] == sizes
            await ended(recorder)

    loop.run_until_complete(scenario())
