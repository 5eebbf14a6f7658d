"""aiopoll.open() of a descriptor that stays its owner's."""

import asyncio
import tempfile
from typing import Any

import aiopoll

from .identity import BLOCK
from .operation import ASYNCIO, Bench, Operation, is_bad_descriptor

CONTENT = 4096


class FileByDescriptor(Operation):
    """Read from without a pause; and written to when the number is a stranger's."""

    kind = "aiopoll.open(descriptor, closefd=False)"
    weight = 2
    slow = True
    is_busy = True
    not_on = dict.fromkeys(ASYNCIO, "what it does is the same on every loop")

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        temporary: Any = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self.file = temporary
        temporary.write(self.block * (CONTENT // BLOCK))
        self.ended = False
        self.rounds = 0

    def begin(self) -> asyncio.Future[Any]:
        return self.loop.create_task(self.opened())

    async def opened(self) -> None:
        self.opened_file = await aiopoll.open(self.file.fileno(), "r+b", closefd=False)
        self.task = self.loop.create_task(self.read())

    async def read(self) -> None:
        expected = self.block * (CONTENT // BLOCK)
        try:
            while not self.ended:
                data = await self.opened_file.pread(CONTENT, 0)
                if data != expected:
                    self.faults.append("a file: foreign data")
                    return
                self.rounds += 1
                await asyncio.sleep(0)
        except (OSError, ValueError) as error:
            if not (is_bad_descriptor(error) or isinstance(error, ValueError)):
                self.faults.append(f"a file: {error!r}")

    def in_flight(self) -> bool:
        return not self.task.done()

    def speak(self) -> None:
        return

    def has_completed(self) -> bool:
        return self.rounds > 2

    def peer_sees_end(self) -> bool:
        return True

    def poke(self) -> None:
        self.writing = self.loop.create_task(self.write())

    async def write(self) -> None:
        try:
            await self.opened_file.pwrite(self.block, 0)
        except (OSError, ValueError) as error:
            if not (is_bad_descriptor(error) or isinstance(error, ValueError)):
                self.faults.append(f"a file: {error!r}")

    def end(self, guest: bool) -> None:
        self.ended = True
        self.closing = self.loop.create_task(self.close())

    async def close(self) -> None:
        await self.task
        if hasattr(self, "writing"):
            await self.writing
        await self.opened_file.close()

    def is_over(self) -> bool:
        return self.closing.done()

    def check(self, lost: bool) -> None:
        super().check(lost)
        self.closing.result()


OPERATIONS: list[type[Operation]] = [FileByDescriptor]
