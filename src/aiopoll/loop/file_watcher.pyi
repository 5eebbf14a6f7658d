from asyncio import Handle
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVarTuple

from _typeshed import FileDescriptorLike

from aiopoll.loop.core import LoopCore

_Ts = TypeVarTuple("_Ts")

class FileWatcher(LoopCore):
    def _watched(self) -> dict[int, tuple[Handle | None, Handle | None]]: ...
    def _add_reader(
        self,
        fd: FileDescriptorLike,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Handle: ...
    def _remove_reader(self, fd: FileDescriptorLike) -> bool: ...
    def _add_writer(
        self,
        fd: FileDescriptorLike,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Handle: ...
    def _remove_writer(self, fd: FileDescriptorLike) -> bool: ...
    def add_reader(
        self,
        fd: FileDescriptorLike,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
    ) -> None: ...
    def remove_reader(self, fd: FileDescriptorLike) -> bool: ...
    def add_writer(
        self,
        fd: FileDescriptorLike,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
    ) -> None: ...
    def remove_writer(self, fd: FileDescriptorLike) -> bool: ...
