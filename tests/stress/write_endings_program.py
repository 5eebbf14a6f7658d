"""The peers of the scenarios: each is judged in this process, its loop runs in a fork of it.

The parent never runs a loop.  Started as `python -m tests.stress.write_endings_program KIND
FOLDER`; each line of its input is a list of scenarios, each line that it prints their outcomes.
"""

import gc
import json
import os
import resource
import select
import signal
import socket
import ssl
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .write_endings_child import SMALL_BUFFER, Child
from .write_endings_matrix import CALLBACKS_OF_WRITING, PIPE, TCP, TLS, UNIX, Scenario

HUNG_MAX = 2  # scenarios of one list; those behind are not run

Outcome = dict[str, Any]


class Peer:
    """The receiver, and its observations."""

    def __init__(
        self,
        scenario: Scenario,
        control: socket.socket,
        listener: socket.socket | None,
        contexts: tuple[ssl.SSLContext, ssl.SSLContext],
        hang_s: float,
    ) -> None:
        self.scenario = scenario
        self.control = control
        self.listener = listener
        self.server_context, self.client_context = contexts
        self.hang_s = hang_s
        self.poller = select.poll()
        self.poller.register(control, select.POLLIN)
        if listener is not None:
            listener.settimeout(hang_s)
            self.poller.register(listener, select.POLLIN)
        self.connection: socket.socket | None = None
        self.fd = -1
        self.reading = False
        self.tls: ssl.SSLObject | None = None
        self.shaken = False
        self.waiting: list[Callable[[], None]] = []  # for that
        self.received = bytearray()
        self.end: str | None = None  # the first that was seen
        self.over = False  # nothing can come any more
        self.dead = False  # every process that could report is dead
        self.told: dict[str, Any] = {}
        self.hung: list[str] = []

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Runs until `condition` holds; records `what` if it never does."""
        deadline = time.monotonic() + self.hang_s
        while not condition():
            if time.monotonic() > deadline:
                self.hung.append(what)
                return
            self.pump(1000)

    def pump(self, timeout_ms: int) -> bool:
        events = self.poller.poll(timeout_ms)
        for fd, _ in events:
            if fd == self.control.fileno():
                self.take_message()
            elif fd == self.fd:
                if self.reading:  # still, after the child's message
                    self.take_data()
            elif self.fd < 0:
                self.accept()
        return bool(events)

    def read(self, reading: bool) -> None:
        """Sets whether data is received, or left to fill the kernel's buffer."""
        if reading and not self.reading:
            self.poller.register(self.fd, select.POLLIN)
        elif self.reading and not reading:
            self.poller.unregister(self.fd)
        self.reading = reading

    # -- messages of the child

    def take_message(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self.control, 65536, 1)
        except ConnectionResetError:
            data, fds = b"", []
        if not data:
            self.dead = True
            self.poller.unregister(self.control)
            return
        message = json.loads(data)
        self.told.update(message)
        if self.listener is not None and self.fd < 0 and "error" not in message:
            self.accept()  # it has connected before its first message
        if "address" in message:
            unix = self.scenario.transport == UNIX
            sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
            if self.scenario.place in CALLBACKS_OF_WRITING:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * SMALL_BUFFER)
            sock.connect(message["address"] if unix else tuple(message["address"]))
            self.connected(sock)
        elif "pipe" in message:
            self.fd = fds[0]
            os.set_blocking(self.fd, False)
            self.read(True)
        elif "ping" in message:
            self.send(b"ping")
        elif "go" in message:
            self.send(b"go")
        elif "junk" in message:
            self.send(b"junk")
        elif "eof" in message:
            self.send_eof()
        elif "hold" in message:
            self.read(False)
        elif ("let_go" in message or "wrote" in message) and not self.over:
            self.read(True)

    def ask(self, question: bytes) -> None:
        try:
            self.control.send(question)
        except OSError:
            pass  # it is dead, as will be seen

    # -- the connection

    def accept(self) -> None:
        assert self.listener is not None
        self.poller.unregister(self.listener)
        self.connected(self.listener.accept()[0])

    def connected(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.setblocking(False)
        self.fd = connection.fileno()
        self.read(True)
        if self.scenario.transport in (TCP, TLS):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.scenario.transport == TLS:
            self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            if self.scenario.accepted:
                self.tls = self.client_context.wrap_bio(
                    self.incoming, self.outgoing, server_hostname="localhost"
                )
            else:
                self.tls = self.server_context.wrap_bio(
                    self.incoming, self.outgoing, server_side=True
                )
            self.decrypt()

    def send(self, data: bytes) -> None:
        if self.tls is not None and not self.shaken:
            self.waiting.append(lambda: self.send(data))
            return
        if self.tls is not None:
            self.tls.write(data)
            data = self.outgoing.read()
        try:
            os.write(self.fd, data)
        except OSError:
            pass

    def send_eof(self) -> None:
        assert self.connection is not None
        if self.tls is None:
            self.connection.shutdown(socket.SHUT_WR)
            return
        if not self.shaken:
            self.waiting.append(self.send_eof)
            return
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        os.write(self.fd, self.outgoing.read())

    def take_data(self) -> None:
        try:
            data = os.read(self.fd, 1 << 18)
        except BlockingIOError:
            return
        except ConnectionError as error:
            data = b""
            self.end = self.end or type(error).__name__
        if not data:
            self.end = self.end or "EOF"
            self.over = True
            self.read(False)
        elif self.tls is None:
            self.received += data
        elif self.end is None:
            self.incoming.write(data)
            self.decrypt()

    def decrypt(self) -> None:
        assert self.tls is not None
        try:
            if not self.shaken:
                self.tls.do_handshake()
                self.shaken = True
                for send in self.waiting:
                    send()
            while data := self.tls.read(1 << 18):
                self.received += data
            self.end = "close_notify"
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.end = "close_notify"
        except ssl.SSLError as error:
            self.end = repr(error)
        data = self.outgoing.read()
        if data:
            os.write(self.fd, data)

    # -- the judgement

    def judge(self) -> Outcome:
        """Goes through the scenario's phases; returns the peer's observations."""
        told = self.told
        self.wait(lambda: "wrote" in told or self.dead, "no callback")
        if "wrote" not in told:
            return {"error": told.get("error", "nothing was written"), "hung": self.hung}
        expected = told["warmed"] + told["filler"] + len(told["wrote"])
        self.wait(lambda: len(self.received) >= expected or self.end, "bytes that were written")
        self.ask(b"settle")
        self.wait(lambda: "settled" in told or self.dead, "the loop")
        if self.dead or not told.get("open", True):
            self.wait(lambda: self.end, "the end")
        while not self.over and self.pump(0):
            pass
        seen, end = bytes(self.received), self.end or "open"
        self.ask(b"exit")
        if told.get("open", True):
            self.wait(lambda: self.over, "the end of the process")
        warm, filler = told["warmed"], told["filler"]
        tail = seen[warm + filler :]
        return {
            "warm": "all" if seen[:warm] == b"w" * warm else repr(seen[:warm]),
            "filler": "all" if seen[warm : warm + filler] == b"." * filler else "part",
            "tail": tail.decode("latin-1") if len(tail) < 100 else f"{len(tail)} bytes",
            "end": end,
            "later": repr(bytes(self.received[len(seen) :])[:100]),
            "error": told.get("error"),
            "hung": self.hung,
        }

    def close(self) -> None:
        self.control.close()
        if self.connection is not None:
            self.connection.close()
        elif self.fd >= 0:
            os.close(self.fd)


class Program:
    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(folder / "server.pem")
        server.num_tickets = 0  # a ticket that is not read would make an end a reset
        client = ssl.create_default_context(cafile=str(folder / "authority.pem"))
        self.contexts = server, client
        self.count = 0
        self.unreaped: list[int] = []

    def listener(self, scenario: Scenario) -> tuple[socket.socket | None, Any]:
        """The peer's, if the child connects, and the address to connect to or to listen on."""
        if scenario.transport == PIPE:
            return None, None
        self.count += 1
        path = str(self.folder / f"{os.getpid()}.{self.count}")
        if scenario.accepted:
            return None, path if scenario.transport == UNIX else ("127.0.0.1", 0)
        if scenario.transport == UNIX:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            listener.listen()
        else:
            listener = socket.create_server(("127.0.0.1", 0))
        return listener, listener.getsockname()

    def run(self, scenario: Scenario, hang_s: float) -> Outcome | None:
        """The outcome; None in the child, which has to return from all callers."""
        listener, address = self.listener(scenario)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if not pid:
            os.setpgid(0, 0)
            ours.close()
            if listener is not None:
                listener.close()
            silence()
            child = Child(scenario, self.kind, theirs, address, self.contexts)
            try:
                child.run()
            except Exception:
                child.say(error=traceback.format_exc())
            return None
        theirs.close()
        peer = Peer(scenario, ours, listener, self.contexts, hang_s)
        try:
            return peer.judge()
        finally:
            peer.close()
            if listener is not None:
                listener.close()
            self.reap(pid, bool(peer.hung))

    def reap(self, pid: int, hung: bool) -> None:
        """Reaps dead children; one that takes long to die is checked again."""
        if hung:
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.unreaped.append(pid)
        self.unreaped = [pid for pid in self.unreaped if os.waitpid(pid, os.WNOHANG) == (0, 0)]

    def run_all(self, scenarios: list[list[Any]], hang_s: float) -> list[Outcome | None] | None:
        outcomes: list[Outcome | None] = []
        hung = 0
        for fields in scenarios:
            if hung == HUNG_MAX:
                outcomes.append(None)
                continue
            outcome = self.run(Scenario(*fields), hang_s)
            if outcome is None:
                return None
            hung += bool(outcome["hung"])
            outcomes.append(outcome)
        return outcomes


def silence() -> None:
    """Discards the output of a dying child, unless a developer asks for it."""
    if "WRITE_ENDINGS_VERBOSE" not in os.environ:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    program = Program(sys.argv[1], Path(sys.argv[2]))
    gc.collect()
    gc.freeze()  # a child's collections then look at its own objects only
    for line in sys.stdin:
        request = json.loads(line)
        outcomes = program.run_all(request["scenarios"], request["hang_s"])
        if outcomes is None:
            return
        print(json.dumps(outcomes), flush=True)


if __name__ == "__main__":
    main()
