"""Sockets given to a loop by sock=: every way to fail ends as with asyncio of the same Python.

Each case runs on asyncio and on this loop.  These must be equal: the exception, the socket's state,
the data that the peer has received, and the calls of the protocol and of the exception handler.
Where asyncio closes the socket some iterations later, it is closed here when the call ends.
"""

import asyncio
import gc
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.support.loops import LOOPS
from tests.support.tls import tls_contexts

HANG_SECONDS = 20
TURNS_MAX = 300  # of a call that is cancelled after so many
SETTLING_TURNS = 20  # in which asyncio does its deferred work

Pair = Callable[[], tuple[socket.socket, socket.socket]]


def tcp_ends() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    return ours, theirs


class Told(asyncio.Protocol):
    """Records its callbacks, and acts when it is connected."""

    def __init__(self, greeting: Callable[[Any], object]) -> None:
        self.calls: list[Any] = []
        self.greeting = greeting

    def connection_made(self, transport: Any) -> None:
        self.calls.append("made")
        self.greeting(transport)

    def data_received(self, data: bytes) -> None:
        self.calls.append(data)

    def eof_received(self) -> None:
        self.calls.append("eof")

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.calls.append(("lost", type(error)))


class Peer:
    """The other end, which the test moves on; it reads all there is."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = bytearray()

    def step(self) -> None:
        """Sends nothing, and reads nothing."""

    def records(self) -> Any:
        """The data received, without its random parts."""
        return bytes(self.received)


class SilentTLS(Peer):
    def records(self) -> list[tuple[int, int | None]]:
        """Type of each record, and the length of small ones: a signature's is never the same."""
        found: list[tuple[int, int | None]] = []
        at = 0
        while at < len(self.received):
            length = int.from_bytes(self.received[at + 3 : at + 5], "big")
            found.append((self.received[at], length if length < 32 else None))
            at += 5 + length
        return found


class GarbageTLS(SilentTLS):
    said = False

    def step(self) -> None:
        if not self.said:
            self.sock.send(b"this is no TLS\r\n\r\n")
            self.said = True


class EndingTLS(SilentTLS):
    """Ends the connection when the handshake has begun."""

    steps = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == 3:
            self.sock.shutdown(socket.SHUT_WR)


class SpeakingTLS(SilentTLS):
    """Does its part of the handshake and of the shutdown."""

    server_side = True

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        context = tls_contexts()[0 if self.server_side else 1]
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=self.server_side,
            server_hostname=None if self.server_side else "localhost",
        )
        self.step_on: Callable[[], object] = self.object.do_handshake
        self.failed = False

    def step(self) -> None:
        if self.failed:
            return
        try:
            if part := self.sock.recv(1 << 16, socket.MSG_DONTWAIT):
                self.received += part
                self.incoming.write(part)
        except (BlockingIOError, ConnectionError):
            pass
        try:
            self.step_on()
            self.step_on = lambda: self.object.read() or self.object.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        except ssl.SSLError:
            self.failed = True
        try:
            if out := self.outgoing.read():
                self.sock.send(out)
        except ConnectionError:
            pass


class ClientTLS(SpeakingTLS):
    server_side = False


@dataclass(frozen=True)
class Case:
    """One call; `options` are made anew for each."""

    call: Callable[..., Any]
    greeting: Callable[[Any], object] = lambda transport: None
    options: Callable[[], dict[str, Any]] = dict
    pair: Pair = socket.socketpair
    peer: type[Peer] = Peer
    factory_raises: type[BaseException] | None = None
    prepare: Callable[[socket.socket], socket.socket] = lambda sock: sock


@dataclass
class Outcome:
    """The outcome of a call."""

    raised: type[BaseException] | None = None
    closed: bool = False
    closed_when_told: bool = field(default=False, compare=False)
    ended: str = ""
    seen: Any = None
    told: list[Any] = field(default_factory=list)
    reported: list[Any] = field(default_factory=list)


def create(loop: Any, factory: Any, sock: socket.socket, **options: Any) -> Any:
    return loop.create_connection(factory, sock=sock, **options)


def create_unix(loop: Any, factory: Any, sock: socket.socket, **options: Any) -> Any:
    return loop.create_unix_connection(factory, sock=sock, **options)


def accepted(loop: Any, factory: Any, sock: socket.socket, **options: Any) -> Any:
    return loop.connect_accepted_socket(factory, sock, **options)


def client() -> dict[str, Any]:
    return {"ssl": tls_contexts()[1], "server_hostname": "localhost"}


def server() -> dict[str, Any]:
    return {"ssl": tls_contexts()[0]}


def distrustful() -> dict[str, Any]:
    return {"ssl": ssl.create_default_context(), "server_hostname": "localhost"}


def default_trust() -> dict[str, Any]:
    return {"ssl": True, "server_hostname": "localhost"}


def raise_error(transport: Any) -> None:
    raise ZeroDivisionError


def write_and(end: str) -> Callable[[Any], object]:
    def greet(transport: Any) -> None:
        transport.write(b"busy")
        getattr(transport, end)()

    return greet


def write_much(transport: Any) -> None:
    """More than the kernel takes at once."""
    transport.write(bytes(4 << 20))


def write_much_and_close(transport: Any) -> None:
    write_much(transport)
    transport.close()


def write_eof_and_abort(transport: Any) -> None:
    transport.write(b"busy")
    transport.write_eof()
    transport.abort()


def other_protocol_and_close(transport: Any) -> None:
    transport.set_protocol(asyncio.Protocol())
    transport.close()


GREETINGS: dict[str, Callable[[Any], object]] = {
    "none": lambda transport: None,
    "close": lambda transport: transport.close(),
    "abort": lambda transport: transport.abort(),
    "write, close": write_and("close"),
    "write, abort": write_and("abort"),
    "write much": write_much,
    "write much, close": write_much_and_close,
    "write_eof, abort": write_eof_and_abort,
    "set_protocol, close": other_protocol_and_close,
    "raise": raise_error,
}
WAYS: dict[str, tuple[Any, Pair]] = {
    "create_connection": (create, tcp_ends),
    "create_connection, Unix": (create, socket.socketpair),
    "create_unix_connection": (create_unix, socket.socketpair),
    "connect_accepted_socket": (accepted, tcp_ends),
}
TLS_WAYS: dict[str, tuple[Any, Any, type[SpeakingTLS]]] = {
    "create_connection": (create, client, SpeakingTLS),
    "create_unix_connection": (create_unix, client, SpeakingTLS),
    "connect_accepted_socket": (accepted, server, ClientTLS),
}
TLS_PEERS: dict[str, type[Peer] | None] = {
    "silent": SilentTLS,
    "garbage": GarbageTLS,
    "ending": EndingTLS,
    "speaking": None,  # SpeakingTLS or ClientTLS
}
BAD_OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "ssl without a name": lambda: {"ssl": tls_contexts()[1]},
    "a name without ssl": lambda: {"server_hostname": "localhost"},
    "a timeout without ssl": lambda: {"ssl_handshake_timeout": 1},
    "a shutdown timeout without ssl": lambda: {"ssl_shutdown_timeout": 1},
    "no handshake timeout": lambda: {**client(), "ssl_handshake_timeout": 0},
    "no shutdown timeout": lambda: {**client(), "ssl_shutdown_timeout": -1},
    "no context": lambda: {**client(), "ssl": "yes"},
    "a bad name": lambda: {**client(), "server_hostname": "a\0b"},
    "unknown": lambda: {"colour": "red"},
}


def as_closed(sock: socket.socket) -> socket.socket:
    sock.close()
    return sock


def as_datagram(sock: socket.socket) -> socket.socket:
    sock.close()
    return socket.socket(type=socket.SOCK_DGRAM)


def as_tls(sock: socket.socket) -> socket.socket:
    return tls_contexts()[1].wrap_socket(
        sock, server_hostname="localhost", do_handshake_on_connect=False
    )


BAD_SOCKETS = {"closed": as_closed, "datagram": as_datagram, "TLS": as_tls}

CASES: dict[str, Case] = {}
for way, (call, pair) in WAYS.items():
    for name, greeting in GREETINGS.items():
        CASES[f"{way}: {name}"] = Case(call, greeting, pair=pair)
    CASES[f"{way}: factory"] = Case(call, pair=pair, factory_raises=ZeroDivisionError)
    for name, options in BAD_OPTIONS.items():
        CASES[f"{way}: {name}"] = Case(call, options=options, pair=pair)
    for name, prepare in BAD_SOCKETS.items():
        if not (name == "TLS" and pair is not tcp_ends):
            CASES[f"{way}: {name} socket"] = Case(call, pair=pair, prepare=prepare)
for way, (call, options, speaking) in TLS_WAYS.items():
    for peer_name, peer in TLS_PEERS.items():
        for name in ("none", "close", "abort", "write, close", "write much", "raise"):
            if name == "none" or peer is None:
                CASES[f"{way}: TLS, {peer_name}: {name}"] = Case(
                    call, GREETINGS[name], options, peer=peer or speaking
                )
    CASES[f"{way}: TLS factory"] = Case(
        call, options=options, peer=speaking, factory_raises=ZeroDivisionError
    )
for way, call in (("create_connection", create), ("create_unix_connection", create_unix)):
    for trust in (distrustful, default_trust):
        CASES[f"{way}: TLS, {trust.__name__}"] = Case(call, options=trust, peer=SpeakingTLS)

ENDLESS = "silent"  # these calls end only if they are cancelled, or too long
TIMEOUTS = {
    way: Case(
        call, options=lambda o=options: {**o(), "ssl_handshake_timeout": 0.02}, peer=SilentTLS
    )
    for way, (call, options, _) in TLS_WAYS.items()
}


def rest_seen(ours: socket.socket, peer: Peer) -> str:
    """Lets the peer read to the end; how the connection has ended, if it has."""
    is_open = ours.fileno() >= 0
    if is_open:  # end it here, so that the reading ends
        try:
            ours.shutdown(socket.SHUT_WR)
        except OSError:
            return "not connected"
    peer.sock.settimeout(HANG_SECONDS)
    try:
        while part := peer.sock.recv(1 << 20):
            peer.received += part
    except ConnectionResetError:
        return "reset"
    except TimeoutError:
        return "no end"
    return "open" if is_open else "EOF"


async def attempt(loop: Any, case: Case, cancel_after: int | None) -> Outcome:
    """Makes the call, and cancels it after a number of iterations."""
    ours, theirs = case.pair()
    ours = case.prepare(ours)
    with theirs, ours:
        return await attempt_with(loop, case, cancel_after, ours, case.peer(theirs))


async def attempt_with(
    loop: Any, case: Case, cancel_after: int | None, ours: socket.socket, peer: Peer
) -> Outcome:
    outcome = Outcome()
    protocols: list[Told] = []
    transports = []

    def factory() -> Told:
        if case.factory_raises is not None:
            raise case.factory_raises
        protocols.append(Told(case.greeting))
        return protocols[0]

    async def caller() -> None:
        try:
            transport, _ = await case.call(loop, factory, ours, **case.options())
        except BaseException as error:
            outcome.raised = type(error)
            outcome.closed_when_told = ours.fileno() < 0
        else:
            transports.append(transport)

    def report(_: Any, context: dict[str, Any]) -> None:
        outcome.reported.append(type(context.get("exception")))

    loop.set_exception_handler(report)
    task = asyncio.ensure_future(caller())
    turns = 0
    while not task.done():
        if turns == cancel_after:
            task.cancel()
        peer.step()
        await asyncio.sleep(0)
        turns += 1
    if task.cancelled():  # before it had begun
        outcome.raised = asyncio.CancelledError
        outcome.closed_when_told = ours.fileno() < 0
    for _ in range(SETTLING_TURNS):
        await asyncio.sleep(0)
    outcome.closed = ours.fileno() < 0
    outcome.told = list(protocols[0].calls) if protocols else []
    if transports:
        transports[0].abort()  # connected
    if outcome.raised is None or (outcome.told[:1] == ["made"] and not outcome.closed):
        # Pending data is sent, and an end by TLS is completed.
        while ours.fileno() >= 0:
            peer.step()
            try:
                if case.peer is Peer:
                    peer.received += peer.sock.recv(1 << 20, socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass
            await asyncio.sleep(0)
        for _ in range(SETTLING_TURNS):
            await asyncio.sleep(0)
        outcome.told = list(protocols[0].calls)
    outcome.ended = rest_seen(ours, peer)
    outcome.seen = peer.records()
    return outcome


def run_on(kind: str, case: Case, cancel_after: int | None = None) -> Outcome:
    loop = LOOPS[kind]()
    try:
        gc.disable()  # objects that only a collection closes stay open
        outcome: Outcome = loop.run_until_complete(
            asyncio.wait_for(attempt(loop, case, cancel_after), HANG_SECONDS)
        )
        assert kind == "asyncio" or loop.statistics().watched == 1, "a file is still watched"
        return outcome
    finally:
        gc.enable()
        loop.close()


def check_closing(case: Case, outcome: Outcome) -> None:
    """Closed sockets are closed when the call ends; but an end by TLS needs the peer."""
    ends_by_tls = issubclass(case.peer, SpeakingTLS) and outcome.told[:1] == ["made"]
    assert outcome.raised is None or outcome.closed_when_told == outcome.closed or ends_by_tls


@pytest.mark.parametrize("kind", ["aio", "epoll"])
@pytest.mark.parametrize("name", [name for name in CASES if ENDLESS not in name])
def test_each_call_ends_as_with_asyncio(name: str, kind: str) -> None:
    ours = run_on(kind, CASES[name])
    assert ours == run_on("asyncio", CASES[name])
    check_closing(CASES[name], ours)


@pytest.mark.parametrize("kind", ["aio", "epoll"])
@pytest.mark.parametrize("way", TIMEOUTS)
def test_handshake_that_times_out_ends_as_with_asyncio(way: str, kind: str) -> None:
    ours = run_on(kind, TIMEOUTS[way])
    assert ours == run_on("asyncio", TIMEOUTS[way])
    check_closing(TIMEOUTS[way], ours)


def cancelled_everywhere(kind: str, case: Case, turns_max: int) -> list[Outcome]:
    """The outcomes of cancelling after 0, 1, … iterations until it is done, without repetitions."""
    outcomes: list[Outcome] = []
    for turns in range(turns_max):
        outcome = run_on(kind, case, turns)
        if not outcomes or outcomes[-1] != outcome:
            outcomes.append(outcome)
        if outcome.raised is not asyncio.CancelledError:
            return outcomes
        if kind != "asyncio":
            check_closing(case, outcome)
    assert case.peer is SilentTLS
    return outcomes


CANCELLED = [
    name
    for name, case in CASES.items()
    if name.split(": ")[-1] not in {*BAD_OPTIONS, *(f"{bad} socket" for bad in BAD_SOCKETS)}
]


@pytest.mark.parametrize("kind", ["aio", "epoll"])
@pytest.mark.parametrize("name", CANCELLED)
def test_call_cancelled_at_any_step_ends_as_with_asyncio(name: str, kind: str) -> None:
    """The number of iterations of a step may differ: here it is smaller than with asyncio."""
    case = CASES[name]
    turns_max = 12 if ENDLESS in name else TURNS_MAX
    ours = cancelled_everywhere(kind, case, turns_max)
    asyncios = cancelled_everywhere("asyncio", case, turns_max)
    assert (ours[0], ours[-1]) == (asyncios[0], asyncios[-1])
    position = 0
    for outcome in ours:
        assert outcome in asyncios[position:]
        position = asyncios.index(outcome, position) + 1
