"""Waits for the data of a pipe on the loop, so that no thread is left waiting for it."""

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiopoll.files.binary import BinaryFile


async def wait_readable(file: "BinaryFile") -> None:
    """Returns when the file is readable, or where the loop cannot poll it: a thread waits then."""
    loop: Any = file.loop
    ready = loop.create_future()
    watched: Any = BorrowedNumber(file) if file.borrowed else file.fileno()
    try:
        loop.add_reader(watched, set_ready, ready)
    except (OSError, NotImplementedError, RuntimeError, ValueError):
        return  # nothing that can be polled, or somebody's transport
    try:
        await ready
    finally:
        unwatch(loop, watched)


class BorrowedNumber:
    """What a loop watches of a file that is somebody else's."""

    def __init__(self, file: "BinaryFile") -> None:
        self._file = file

    def fileno(self) -> int:
        """The descriptor; ValueError if it names another file by now."""
        try:
            with self._file._descriptor():
                return self._file.fileno()
        except OSError as error:
            raise ValueError("the file was closed by its owner") from error


def unwatch(loop: Any, watched: BorrowedNumber | int) -> None:
    """remove_reader(), also of what has lost its number, which asyncio's refuses to look for."""
    remove_reader = loop.remove_reader
    if isinstance(watched, BorrowedNumber):
        remove_reader = getattr(loop, "_remove_reader", remove_reader)
    try:
        remove_reader(watched)
    except ValueError:
        pass  # this loop knows numbers only, and the number is another one's


def set_ready(ready: asyncio.Future[None]) -> None:
    """Finishes the future, unless it is."""
    if not ready.done():
        ready.set_result(None)
