"""Linux AIO poll for Python: requests and completions, a selector, an asyncio event loop.

Every name here is public and stable; aiopoll.libaio has libaio's own names.
"""

from aiopoll import libaio
from aiopoll._core.aio import Context
from aiopoll._core.buffers import AlignedBuffer, BufferPool
from aiopoll._core.errors import SubmitError
from aiopoll._core.iocb import Iocb, IoEvent
from aiopoll._core.reactor_statistics import ReactorStatistics
from aiopoll._core.statistics import ContextStatistics
from aiopoll._core.streams import StreamReader, StreamReaderProtocol, StreamWriter
from aiopoll.files import BinaryFile, FileStatistics, TextFile, file_statistics, open
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
    "ReactorStatistics",
    "SelectorStatistics",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "SubmitError",
    "Support",
    "TextFile",
    "accelerate_streams",
    "alias_uvloop",
    "file_statistics",
    "install",
    "libaio",
    "new_event_loop",
    "open",
    "open_connection",
    "open_unix_connection",
    "probe",
    "run",
    "start_server",
    "start_unix_server",
]
