"""Linux AIO poll for Python: requests and completions, a selector, an asyncio event loop.

Every name here is public and stable; aiopoll.libaio has libaio's own names.
"""

import typing

from aiopoll import libaio
from aiopoll._core.aio import Context
from aiopoll._core.buffers import AlignedBuffer, BufferPool
from aiopoll._core.errors import SubmitError
from aiopoll._core.iocb import Iocb, IoEvent
from aiopoll._core.reactor_statistics import ReactorStatistics
from aiopoll._core.statistics import ContextStatistics
from aiopoll._core.streams import StreamReader, StreamReaderProtocol, StreamWriter
from aiopoll.loop import (
    EventLoop,
    EventLoopPolicy,
    alias_uvloop,
    install,
    new_event_loop,
    run,
)
from aiopoll.probe import Support, probe
from aiopoll.selector import AioSelector, SelectorStatistics
from aiopoll.streams import (
    accelerate_streams,
    open_connection,
    open_unix_connection,
    start_server,
    start_unix_server,
)

if typing.TYPE_CHECKING:
    from aiopoll.files import (
        BinaryFile,
        FileStatistics,
        NamedTemporaryFile,
        Path,
        TemporaryDirectory,
        TemporaryFile,
        TextFile,
        copyfile,
        file_statistics,
        open,
        read_bytes,
        scandir,
        write_atomic,
        write_bytes,
    )

__all__ = [
    "AioSelector",
    "AlignedBuffer",
    "BinaryFile",
    "BufferPool",
    "Context",
    "ContextStatistics",
    "EventLoop",
    "EventLoopPolicy",
    "FileStatistics",
    "IoEvent",
    "Iocb",
    "NamedTemporaryFile",
    "Path",
    "ReactorStatistics",
    "SelectorStatistics",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "SubmitError",
    "Support",
    "TemporaryDirectory",
    "TemporaryFile",
    "TextFile",
    "accelerate_streams",
    "alias_uvloop",
    "copyfile",
    "file_statistics",
    "install",
    "libaio",
    "new_event_loop",
    "open",
    "open_connection",
    "open_unix_connection",
    "probe",
    "read_bytes",
    "run",
    "scandir",
    "start_server",
    "start_unix_server",
    "write_atomic",
    "write_bytes",
]

_FILES = frozenset(
    {
        "BinaryFile",
        "FileStatistics",
        "NamedTemporaryFile",
        "Path",
        "TemporaryDirectory",
        "TemporaryFile",
        "TextFile",
        "copyfile",
        "file_statistics",
        "open",
        "read_bytes",
        "scandir",
        "write_atomic",
        "write_bytes",
    }
)


def __getattr__(name: str) -> object:
    """The async files are imported at first use: a program that has none starts without them."""
    if name in _FILES:
        from aiopoll import files

        value = globals()[name] = getattr(files, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_FILES]
