"""`loop._selector`, as asyncio's transports and debuggers expect it."""

import selectors
from collections.abc import Mapping
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey
from typing import TYPE_CHECKING, Any, NoReturn

from aiopoll.loop.file_watcher import FileWatcher

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike


class SelectorView(selectors.BaseSelector):
    """The files that a loop watches, as a selector shows them; none can be added here.

    `close` closes the loop's reactor, for this is where asyncio's `close` comes by.
    """

    def __init__(self, core: FileWatcher) -> None:
        self._core = core

    def get_map(self) -> Mapping["FileDescriptorLike", SelectorKey]:
        """The watched files by descriptor; the data of a key is (reader, writer), as in asyncio."""
        return {
            fd: SelectorKey(
                fd, fd, (EVENT_READ if reader else 0) | (EVENT_WRITE if writer else 0), handles
            )
            for fd, (reader, writer) in self._core._watched().items()
            for handles in [(reader, writer)]
        }

    def close(self) -> None:
        self._core._close_reactor()

    def register(self, fileobj: "FileDescriptorLike", events: int, data: Any = None) -> NoReturn:
        raise NotImplementedError("use loop.add_reader() or add_writer()")

    def unregister(self, fileobj: "FileDescriptorLike") -> NoReturn:
        raise NotImplementedError("use loop.remove_reader() or remove_writer()")

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Lets the loop wait, for its timers too, up to `timeout` seconds.

        Ready callbacks are in the loop's queue then, and the result is empty: code that replaces
        the loop's iteration by its own (nest_asyncio) runs that queue.
        """
        self._core._select(timeout)
        return []
