"""Waits for the data of a pipe on the loop, so that no thread has to wait for it."""

import asyncio
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiopoll.files.binary import BinaryFile


async def wait_readable(file: "BinaryFile") -> None:
    """Waits until the file is readable; returns at once if the loop cannot poll it."""
    loop: Any = file.loop
    ready = loop.create_future()
    watched: Any = BorrowedNumber(file) if file.borrowed else file.fileno()
    try:
        loop.add_reader(watched, set_ready, ready)
    except (OSError, NotImplementedError, RuntimeError, ValueError):
        return  # not pollable, or a transport's: a thread waits then
    try:
        await ready
    finally:
        unwatch(loop, watched)


class BorrowedNumber:
    """The object by which a loop watches a borrowed descriptor."""

    def __init__(self, file: "BinaryFile") -> None:
        self._file = file

    def fileno(self) -> int:
        """Returns the descriptor.  Raises ValueError if it names another file by now."""
        try:
            with self._file._descriptor():
                return self._file.fileno()
        except OSError as error:
            raise ValueError("the file was closed by its owner") from error


def unwatch(loop: Any, watched: BorrowedNumber | int) -> None:
    """Calls remove_reader(), even for an object that has lost its number, which asyncio refuses."""
    remove_reader = loop.remove_reader
    if isinstance(watched, BorrowedNumber):
        remove_reader = getattr(loop, "_remove_reader", remove_reader)
    try:
        remove_reader(watched)
    except ValueError:
        pass  # this loop keeps numbers only, and the number is another file's


def set_ready(ready: asyncio.Future[None]) -> None:
    """Finishes the future, unless it is done."""
    if not ready.done():
        ready.set_result(None)


async def until_readable(fd: int) -> None:
    """Waits until a descriptor is readable; returns at once if the loop cannot poll it.

    The loop watches a duplicate: other code may watch `fd` itself, or close it meanwhile.
    """
    loop = asyncio.get_running_loop()
    own = os.dup(fd)
    try:
        ready = loop.create_future()
        try:
            loop.add_reader(own, set_ready, ready)
        except (OSError, NotImplementedError, RuntimeError, ValueError):
            return
        try:
            await ready
        finally:
            loop.remove_reader(own)
    finally:
        os.close(own)
