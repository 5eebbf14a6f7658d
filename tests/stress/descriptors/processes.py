"""Subprocesses, whose Popen exposes its pipes."""

import asyncio
import socket
from typing import Any

from .identity import BLOCK
from .operation import Bench, Operation
from .owners import Way
from .pipes import BY_NUMBER


class Subprocess(Operation):
    """cat, whose input or output is lost."""

    weight = 1
    slow = True
    not_on = BY_NUMBER
    stream: str
    transport: asyncio.SubprocessTransport

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.file = socket.socket()  # until there is a process
        self.ear = ProcessEar(self)

    def begin(self) -> asyncio.Future[Any]:
        return self.loop.create_task(self.started())

    async def started(self) -> None:
        self.transport, _ = await self.loop.subprocess_exec(lambda: self.ear, "cat", stderr=None)
        self.file.close()
        self.file = getattr(self.transport.get_extra_info("subprocess"), self.stream)

    def takes(self, way: Way) -> bool:
        return not way.sockets_only

    def in_flight(self) -> bool:
        return not self.ear.exited

    def write(self) -> None:
        pipe: Any = self.transport.get_pipe_transport(0)
        if pipe is not None:
            pipe.write(self.block)

    def speak(self) -> None:
        if self.stream == "stdout":
            self.write()

    def has_completed(self) -> bool:
        if self.stream == "stdin" and not self.heard.position:
            self.write()
        return self.heard.position >= BLOCK

    def peer_sees_end(self) -> bool:
        return True  # the child's input is known when it ends

    def poke(self) -> None:
        self.write()

    def end(self, guest: bool) -> None:
        if not self.ear.exited:
            self.transport.kill()

    def is_over(self) -> bool:
        if self.ear.exited:
            self.transport.close()
        return self.ear.lost > 0

    def dispose(self) -> None:
        self.file.close()


class SubprocessInput(Subprocess):
    kind = "input of a subprocess"
    stream = "stdin"


class SubprocessOutput(Subprocess):
    kind = "output of a subprocess"
    stream = "stdout"


class ProcessEar(asyncio.SubprocessProtocol):
    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.lost = 0
        self.exited = False

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        try:
            self.operation.heard.feed(data)
        except AssertionError as error:
            self.operation.faults.append(f"a subprocess: {error}")

    def process_exited(self) -> None:
        self.exited = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost += 1


OPERATIONS: list[type[Operation]] = [SubprocessInput, SubprocessOutput]
