"""Linux AIO poll for Python: requests and completions, a selector, an asyncio event loop.

Every name here is public and stable; aiopoll.libaio has libaio's own names.  Each is imported at
its first use: aiopoll.kernel needs no compiled module, and a program without files no files.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from aiopoll import libaio as libaio
    from aiopoll.aio.buffers import AlignedBuffer as AlignedBuffer
    from aiopoll.aio.buffers import BufferPool as BufferPool
    from aiopoll.aio.context import Context as Context
    from aiopoll.aio.errors import SubmitError as SubmitError
    from aiopoll.aio.iocb import Iocb as Iocb
    from aiopoll.aio.iocb import IoEvent as IoEvent
    from aiopoll.aio.statistics import ContextStatistics as ContextStatistics
    from aiopoll.files import BinaryFile as BinaryFile
    from aiopoll.files import FileStatistics as FileStatistics
    from aiopoll.files import NamedTemporaryFile as NamedTemporaryFile
    from aiopoll.files import Path as Path
    from aiopoll.files import TemporaryDirectory as TemporaryDirectory
    from aiopoll.files import TemporaryFile as TemporaryFile
    from aiopoll.files import TextFile as TextFile
    from aiopoll.files import WrappedBinaryFile as WrappedBinaryFile
    from aiopoll.files import WrappedTextFile as WrappedTextFile
    from aiopoll.files import copyfile as copyfile
    from aiopoll.files import file_statistics as file_statistics
    from aiopoll.files import open as open
    from aiopoll.files import read_bytes as read_bytes
    from aiopoll.files import scandir as scandir
    from aiopoll.files import stderr as stderr
    from aiopoll.files import stderr_bytes as stderr_bytes
    from aiopoll.files import stdin as stdin
    from aiopoll.files import stdin_bytes as stdin_bytes
    from aiopoll.files import stdout as stdout
    from aiopoll.files import stdout_bytes as stdout_bytes
    from aiopoll.files import wrap as wrap
    from aiopoll.files import write_atomic as write_atomic
    from aiopoll.files import write_bytes as write_bytes
    from aiopoll.loop import EventLoop as EventLoop
    from aiopoll.loop import EventLoopPolicy as EventLoopPolicy
    from aiopoll.loop import alias_uvloop as alias_uvloop
    from aiopoll.loop import install as install
    from aiopoll.loop import new_event_loop as new_event_loop
    from aiopoll.loop import run as run
    from aiopoll.loop.monitor.metrics import Histogram as Histogram
    from aiopoll.loop.monitor.metrics import LoopMetrics as LoopMetrics
    from aiopoll.loop.monitor.metrics import ThreadPoolMetrics as ThreadPoolMetrics
    from aiopoll.loop.monitor.metrics import Timings as Timings
    from aiopoll.loop.monitor.records import LoopDump as LoopDump
    from aiopoll.loop.monitor.stalls import Stall as Stall
    from aiopoll.loop.monitor.stalls import StallKind as StallKind
    from aiopoll.loop.monitor.stalls import StallTotal as StallTotal
    from aiopoll.loop.monitor.tracing import trace_span as trace_span
    from aiopoll.loop.streams.streams import StreamReader as StreamReader
    from aiopoll.loop.streams.streams import StreamReaderProtocol as StreamReaderProtocol
    from aiopoll.loop.streams.streams import StreamWriter as StreamWriter
    from aiopoll.reactor.statistics import ReactorStatistics as ReactorStatistics
    from aiopoll.selector import AioSelector as AioSelector
    from aiopoll.selector import SelectorStatistics as SelectorStatistics
    from aiopoll.streams import accelerate_streams as accelerate_streams
    from aiopoll.streams import open_connection as open_connection
    from aiopoll.streams import open_unix_connection as open_unix_connection
    from aiopoll.streams import start_server as start_server
    from aiopoll.streams import start_unix_server as start_unix_server
    from aiopoll.support import Support as Support
    from aiopoll.support import probe as probe

__version__ = "0.1.0"

_MODULES = {
    "aio.buffers": ("AlignedBuffer", "BufferPool"),
    "aio.context": ("Context",),
    "aio.errors": ("SubmitError",),
    "aio.iocb": ("Iocb", "IoEvent"),
    "aio.statistics": ("ContextStatistics",),
    "files": (
        "BinaryFile",
        "FileStatistics",
        "NamedTemporaryFile",
        "Path",
        "TemporaryDirectory",
        "TemporaryFile",
        "TextFile",
        "WrappedBinaryFile",
        "WrappedTextFile",
        "copyfile",
        "file_statistics",
        "open",
        "read_bytes",
        "scandir",
        "stderr",
        "stderr_bytes",
        "stdin",
        "stdin_bytes",
        "stdout",
        "stdout_bytes",
        "wrap",
        "write_atomic",
        "write_bytes",
    ),
    "loop": ("EventLoop", "EventLoopPolicy", "alias_uvloop", "install", "new_event_loop", "run"),
    "loop.monitor.metrics": ("Histogram", "LoopMetrics", "ThreadPoolMetrics", "Timings"),
    "loop.monitor.stalls": ("Stall", "StallKind", "StallTotal"),
    "loop.monitor.tracing": ("trace_span",),
    "loop.monitor.records": ("LoopDump",),
    "loop.streams.streams": ("StreamReader", "StreamReaderProtocol", "StreamWriter"),
    "support": ("Support", "probe"),
    "reactor.statistics": ("ReactorStatistics",),
    "selector": ("AioSelector", "SelectorStatistics"),
    "streams": (
        "accelerate_streams",
        "open_connection",
        "open_unix_connection",
        "start_server",
        "start_unix_server",
    ),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

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
    "Histogram",
    "IoEvent",
    "Iocb",
    "LoopMetrics",
    "NamedTemporaryFile",
    "Path",
    "ReactorStatistics",
    "SelectorStatistics",
    "Stall",
    "StallKind",
    "StallTotal",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "SubmitError",
    "Support",
    "TemporaryDirectory",
    "TemporaryFile",
    "TextFile",
    "ThreadPoolMetrics",
    "Timings",
    "WrappedBinaryFile",
    "WrappedTextFile",
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
    "stderr",
    "stderr_bytes",
    "stdin",
    "stdin_bytes",
    "stdout",
    "stdout_bytes",
    "trace_span",
    "wrap",
    "write_atomic",
    "write_bytes",
]


def __getattr__(name: str) -> object:
    """Imports the module of a public name at its first use."""
    if name in _MODULE_OF:
        module = importlib.import_module(f"aiopoll.{_MODULE_OF[name]}")
        value: object = getattr(module, name)
    elif name == "libaio":
        value = importlib.import_module("aiopoll.libaio")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
