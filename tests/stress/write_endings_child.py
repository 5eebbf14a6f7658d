"""The side of a scenario that runs a loop: it writes, and ends as the scenario requires."""

import asyncio
import fcntl
import gc
import json
import os
import select
import signal
import socket
import ssl
import sys
import termios
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import aiopoll
import aiopoll.loop  # before the fork: each child would load the compiled modules anew

from .write_endings_matrix import (
    CALLBACKS_OF_WRITING,
    OUTSIDE,
    OVERTAKING,
    PIPE,
    TCP,
    TLS,
    UNIX,
    Scenario,
)

PIECES = (b"<one>", b"<two>", b"<three>")
PAST = b"<past>"  # data that bypasses the transport
WARM_PIECES = 3
WARM_ROUNDS = 3  # for a loop that does not count; at most ten times as many for one that does
TURNS = 5  # iterations that an ending may take
CHUNK = b"." * 4096
SMALL_BUFFER = 16 * 1024
HANG_S = 60  # only a hang takes as long

LOOPS: dict[str, Callable[[], Any]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "aio": lambda: aiopoll.new_event_loop(backend="aio"),
    "aio, not gathering": lambda: aiopoll.new_event_loop(backend="aio", gather_writes=False),
    "epoll": lambda: aiopoll.new_event_loop(backend="epoll"),
}


class Ends(BaseException):
    """An exception that no program expects."""


def descriptors() -> dict[str, int]:
    """The sockets and pipes that this process has: kernel's name to a number."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith(("socket:", "pipe:")):
            found[target] = int(name)
    return found


def queued(fd: int, request: int) -> int:
    """Bytes to be read (FIONREAD), or not known to have arrived yet (TIOCOUTQ)."""
    return int.from_bytes(fcntl.ioctl(fd, request, bytes(4)), sys.byteorder)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANG_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.0005)


class Talker(asyncio.Protocol):
    """Reports the connection's callbacks to the child."""

    def __init__(self, child: "Child") -> None:
        self.child = child

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.child.made(transport)

    def data_received(self, data: bytes) -> None:
        self.child.heard(data, "data_received")

    def eof_received(self) -> bool:
        self.child.at("eof_received")
        return True

    def pause_writing(self) -> None:
        self.child.filling = False
        self.child.at("pause_writing")

    def resume_writing(self) -> None:
        self.child.at("resume_writing")


class BufferedTalker(asyncio.BufferedProtocol):
    def __init__(self, child: "Child") -> None:
        self.child = child
        self.buffer = bytearray(100)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.child.made(transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.child.heard(bytes(self.buffer[:nbytes]), "buffer_updated")


class Another(asyncio.Protocol):
    """Another connection."""

    def __init__(self, child: "Child") -> None:
        self.child = child

    def connection_lost(self, exc: Exception | None) -> None:
        self.child.at("connection_lost")


class Child:
    """One scenario.  `control` leads to the peer, which is in the parent process."""

    def __init__(
        self,
        scenario: Scenario,
        kind: str,
        control: socket.socket,
        address: Any,
        contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    ) -> None:
        self.scenario = scenario
        self.kind = kind
        self.control = control
        self.address = address  # of the peer, or to listen on
        self.server_context, self.client_context = contexts
        self.pid = os.getpid()
        self.armed = False  # the next callback of the scenario's place is the one
        self.filling = False
        self.warmed = self.filler = 0  # bytes
        self.transport: Any = None
        self.another: Any = None
        self.servers: list[Any] = []
        self.before: set[str] = set()
        self.own = ""  # the kernel's name of the connection
        self.round: Any = None
        self.loop = LOOPS[kind]()
        self.loop.set_exception_handler(lambda *_: None)
        self.introduced = self.loop.create_future()

    # -- messages to and from the peer

    def say(self, **message: Any) -> None:
        self.control.send(json.dumps(message).encode())

    def obey(self) -> None:
        """Carries out the peer's commands, while the loop runs."""
        if self.control.recv(100) == b"settle":
            self.turn(TURNS)
        else:
            os._exit(0)

    def obey_without_loop(self) -> NoReturn:
        while self.control.recv(100) == b"settle":
            self.settled()
        os._exit(0)

    def turn(self, count: int) -> None:
        if self.scenario.ending == "transport collected":
            gc.collect()
        if count:
            self.loop.call_soon(self.turn, count - 1)
        else:
            self.settled()

    def settled(self) -> None:
        """Reports that nothing more will happen by itself; all sent data has arrived."""
        fd = descriptors().get(self.own)
        if fd is not None and self.scenario.transport in (TCP, TLS):
            until(lambda: queued(fd, termios.TIOCOUTQ) == 0)
        self.say(settled=True, open=fd is not None)

    # -- the connection

    def protocol(self) -> asyncio.BaseProtocol:
        return (BufferedTalker if self.scenario.place == "buffer_updated" else Talker)(self)

    async def connect(self) -> None:
        scenario, loop = self.scenario, self.loop
        if scenario.place == "connection_lost":
            ours, theirs = socket.socketpair()
            self.another, _ = await loop.create_connection(lambda: Another(self), sock=ours)
            self.servers.append(theirs)
        self.before = set(descriptors())
        if scenario.transport == PIPE:
            reader, writer = os.pipe()
            socket.send_fds(self.control, [b'{"pipe": true}'], [reader])
            os.close(reader)
            await loop.connect_write_pipe(self.protocol, os.fdopen(writer, "wb", 0))
        elif scenario.accepted:
            context = self.server_context if scenario.transport == TLS else None
            if scenario.transport == UNIX:
                server = await loop.create_unix_server(self.protocol, self.address)
            else:
                server = await loop.create_server(self.protocol, *self.address, ssl=context)
                if scenario.place in CALLBACKS_OF_WRITING:
                    listener = server.sockets[0]
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
            self.servers.append(server)
            self.before = set(descriptors())
            self.say(address=server.sockets[0].getsockname())
        elif scenario.transport == UNIX:
            await loop.create_unix_connection(self.protocol, self.address)
        elif scenario.transport == TLS:
            await loop.create_connection(
                self.protocol, *self.address, ssl=self.client_context, server_hostname="localhost"
            )
        else:
            await loop.create_connection(self.protocol, *self.address)
        await self.introduced

    def made(self, transport: Any) -> None:
        self.transport = transport
        (self.own,) = set(descriptors()) - self.before
        self.introduced.set_result(None)
        self.at("connection_made")

    async def warm(self) -> None:
        """Has callbacks write several times, until the loop is seen to gather."""
        rounds = 0
        while rounds < WARM_ROUNDS or self.more_sends() == 0:
            assert rounds < 10 * WARM_ROUNDS, "the loop gathers nothing"
            rounds += 1
            self.round = self.loop.create_future()
            if self.scenario.place in OUTSIDE:
                self.loop.call_soon(self.write_to_warm)
            else:
                self.say(ping=True)
            await self.round

    def more_sends(self) -> int | None:
        """The number of sends with MSG_MORE; None of a loop that has none."""
        if self.kind not in ("aio", "epoll"):
            return None
        sends: int = self.loop.statistics().more_sends
        return sends

    def write_to_warm(self) -> None:
        for _ in range(WARM_PIECES):
            self.transport.write(b"w")
        self.warmed += WARM_PIECES
        self.round.set_result(None)

    def heard(self, data: bytes, place: str) -> None:
        if data == b"ping":
            self.write_to_warm()
        elif data == b"go":
            self.at(place)

    # -- the scenario

    def run(self) -> None:
        scenario = self.scenario
        self.loop.add_reader(self.control, self.obey)
        connecting = self.loop.create_task(self.connect())
        if scenario.place == "connection_made":
            self.armed = True
        else:
            self.loop.run_until_complete(connecting)
            if scenario.state != "fresh":
                self.loop.run_until_complete(self.warm())
            self.armed = True
            self.trigger()
        del connecting
        try:
            self.loop.run_forever()
        except BaseException:
            if scenario.ending == "sys.exit" or (
                os.getpid() != self.pid and scenario.ending == "fork, child raises SystemExit"
            ):
                raise
        if os.getpid() != self.pid and scenario.ending == "fork, child returns":
            self.loop.close()
            os._exit(0)
        if scenario.ending == "KeyboardInterrupt, loop goes on":
            self.loop.run_forever()
        elif scenario.ending == "stop, loop closed":
            self.loop.close()
        elif scenario.ending == "stop, loop collected":
            self.loop = self.transport = self.another = self.introduced = None
            self.round = None
            self.servers.clear()
            gc.collect()
        self.obey_without_loop()

    def trigger(self) -> None:
        """Causes the callback of the scenario's place."""
        place = self.scenario.place
        calls = [lambda: self.at(place)]
        if self.scenario.ending == "KeyboardInterrupt in the next callback":
            calls.append(self.interrupt)
        if place in ("data_received", "buffer_updated"):
            self.say(go=True)
        elif place == "eof_received":
            self.say(eof=True)
        elif place in CALLBACKS_OF_WRITING:
            self.say(hold=True)
            self.loop.call_soon(self.fill)
        elif place == "connection_lost":
            self.another.abort()
        elif place == "call_soon":
            for call in calls:
                self.loop.call_soon(call)
        elif place == "task":
            self.loop.create_task(self.step())
            for call in calls[1:]:
                self.loop.call_soon(call)
        else:
            thread = threading.Thread(
                target=lambda: [self.loop.call_soon_threadsafe(call) for call in calls]
            )
            thread.start()
            thread.join()

    async def step(self) -> None:
        self.at("task")
        await asyncio.sleep(0)

    def fill(self) -> None:
        """Writes more than the kernel and the transport take."""
        transports = [self.transport]
        if self.scenario.transport == TLS:
            transports.append(self.transport._ssl_protocol._transport)
        for transport in transports:
            transport.set_write_buffer_limits(high=len(CHUNK), low=0)
        transports.clear()
        del transport
        self.filling = True
        while self.filling:
            self.filler += len(CHUNK)
            self.transport.write(CHUNK)
        if self.scenario.place == "resume_writing":
            self.say(let_go=True)

    def at(self, place: str) -> None:
        if self.armed and place == self.scenario.place:
            self.armed = False
            self.act()

    def act(self) -> None:
        ending = self.scenario.ending
        if self.scenario.state == "unread":
            self.say(junk=True)
            fd = descriptors()[self.own]
            until(lambda: queued(fd, termios.FIONREAD) > 0)
        written = PIECES[: self.scenario.writes]
        for piece in written:
            self.transport.write(piece)
        after = PAST if ending in OVERTAKING and ending != "shutdown" else b""
        self.say(warmed=self.warmed, filler=self.filler, wrote=(b"".join(written) + after).decode())
        ACTIONS[ending](self)

    # -- the endings

    def interrupt(self) -> None:
        raise KeyboardInterrupt

    def stop(self) -> None:
        self.loop.stop()

    def fork(self, in_child: Callable[[], None], in_parent: Callable[[int], object]) -> None:
        pid = os.fork()
        if pid:
            in_parent(pid)
        else:
            in_child()

    def die(self, signal_number: int) -> None:
        os.kill(os.getpid(), signal_number)

    def collect(self) -> None:
        transport = self.transport
        if self.scenario.transport == TLS:
            transport = transport._ssl_protocol._transport
        transport.pause_reading()
        self.transport = transport = None
        gc.collect()  # and again later, if a caller still has it

    def block(self) -> None:
        """Blocks until the peer reports that it has received."""
        poller = select.poll()
        poller.register(self.control, select.POLLIN)
        poller.poll(HANG_S * 1000)

    def cancel(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    def overtake(self, how: str) -> None:
        file = self.transport.get_extra_info(
            "pipe" if self.scenario.transport == PIPE else "socket"
        )
        if how == "shutdown":
            file.shutdown(socket.SHUT_WR)
        elif how == "os.write":
            os.write(file.fileno(), PAST)
        elif how == "dup":
            fd = os.dup(file.fileno())
            os.write(fd, PAST)
            os.close(fd)
        else:
            pid = os.posix_spawn(
                "/bin/echo",
                ["echo", "-n", PAST.decode()],
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, file.fileno(), 1)],
            )
            os.waitpid(pid, 0)


def raising(error: BaseException) -> Callable[[Child], NoReturn]:
    def act(child: Child) -> NoReturn:
        raise error

    return act


def sys_exit() -> None:
    sys.exit(0)


def wait_for(pid: int) -> None:
    os.waitpid(pid, 0)


ACTIONS: dict[str, Callable[[Child], object]] = {
    "return": lambda child: None,
    "ValueError": raising(ValueError("planted")),
    "OSError": raising(OSError("planted")),
    "CancelledError": raising(asyncio.CancelledError()),
    "BaseException": raising(Ends()),
    "KeyboardInterrupt": Child.interrupt,
    "KeyboardInterrupt, loop goes on": Child.interrupt,
    "KeyboardInterrupt in the next callback": lambda child: None,
    "SystemExit": lambda child: sys_exit(),
    "sys.exit": lambda child: sys_exit(),
    "os._exit": lambda child: os._exit(0),
    "exec": lambda child: os.execv("/bin/true", ["true"]),
    "os.abort": lambda child: os.abort(),
    "SIGKILL": lambda child: child.die(signal.SIGKILL),
    "fork, child exits": lambda child: child.fork(lambda: os._exit(0), wait_for),
    "fork, child raises SystemExit": lambda child: child.fork(sys_exit, wait_for),
    "fork, child returns": lambda child: child.fork(child.stop, wait_for),
    "fork, parent exits": lambda child: child.fork(child.stop, lambda pid: os._exit(0)),
    "stop": Child.stop,
    "stop, loop closed": Child.stop,
    "stop, loop collected": Child.stop,
    "close": lambda child: child.transport.close(),
    "abort": lambda child: child.transport.abort(),
    "transport collected": Child.collect,
    "task cancelled": Child.cancel,
    "blocks": Child.block,
    **{
        how: (lambda child, how=how: child.overtake(how))  # type: ignore[misc]
        for how in OVERTAKING
    },
}
