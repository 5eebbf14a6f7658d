from asyncio import Future
from typing import Any

from typing_extensions import disjoint_base

from aiopoll._core.file_queue import FileOwner, FileRequest

@disjoint_base
class FileRoutes(FileOwner):
    name: Any
    @property
    def writes(self) -> int: ...
    @property
    def direct(self) -> bool: ...
    def _returned_later(self, request: FileRequest, result: int) -> None: ...
    def _close_now(self) -> None: ...
    def _closed(self, closed: Future[None]) -> None: ...
