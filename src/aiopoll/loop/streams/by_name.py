"""asyncio's own names of streams give the compiled ones, on this package's loops.

Facts.  asyncio.open_connection(), start_server(), subprocesses and programs call the classes
StreamReader, StreamReaderProtocol and StreamWriter of asyncio.  A call of a class initialises what
its __new__() returns, if that is an instance of the class (Objects/typeobject.c, type_call).

Rule.  The first loop gives each of the three classes a __new__(), which stays.  It returns the
compiled subclass where the loop wants compiled streams, the class is asyncio's and no subclass,
and none of the methods that were compiled has been replaced.  Else it returns what it returned
before.

Why.  A function put in the place of open_connection() would miss the modules that imported it
before, and would serve the loops of others too.

Failure prevented.  A tool wraps asyncio.StreamReader.read to count its calls.  A compiled reader
has a read() of its own, and would not be counted.

Cost.  A microsecond for each object; half of one on another loop.
"""

import asyncio
import importlib
import inspect
from asyncio import streams
from typing import Any

COMPILED = "aiopoll.loop.streams.streams"


class CompiledByName:
    """A class of asyncio and its compiled subclass, which is imported at its first use.

    loop_at: the position of the constructor's parameter `loop`.
    below: the position and name of the parameter that has to be compiled too, and what it is.
    """

    def __init__(
        self, name: str, loop_at: int, below: "tuple[int, str, CompiledByName] | None" = None
    ) -> None:
        self.asyncios: Any = getattr(streams, name)
        self.compiled: Any = None
        self.methods: dict[str, Any] = {}  # asyncio's, in whose place are compiled ones
        self.loop_at = loop_at
        self.below = below

    def find(self) -> None:
        """Imports the subclass, and notes asyncio's methods unless one of them is not its own."""
        if self.compiled is None:
            self.compiled = getattr(importlib.import_module(COMPILED), self.asyncios.__name__)
        classes = self.compiled.__mro__
        names = {
            name
            for before in classes[: classes.index(self.asyncios)]
            for name, value in vars(before).items()
            if callable(value) and name in vars(self.asyncios) and name != "__new__"
        }
        methods = {name: vars(self.asyncios)[name] for name in names}
        if all(getattr(m, "__globals__", None) is vars(streams) for m in methods.values()):
            self.methods = methods

    def is_unchanged(self) -> bool:
        """Whether asyncio's class has asyncio's methods where the subclass has others."""
        if not self.methods:
            self.find()
        return bool(self.methods) and self.methods.items() <= vars(self.asyncios).items()

    def is_wanted(self, args: tuple[Any, ...], options: dict[str, Any]) -> bool:
        """Whether a stream with these arguments, which may be wrong ones, is to be compiled."""
        loop = args[self.loop_at] if len(args) > self.loop_at else options.get("loop")
        if loop is None:
            loop = asyncio._get_running_loop()
        if getattr(loop, "_compiled_streams", None) is not True:
            return False
        if self.below is not None:
            position, name, kind = self.below
            below = args[position] if len(args) > position else options.get(name)
            if type(below) is not kind.compiled:
                return False
        return self.is_unchanged()

    def put_into_asyncio(self) -> None:
        """Gives asyncio's class the __new__() that chooses, unless it has one."""
        asyncios = self.asyncios

        def new(cls: type, *args: Any, **options: Any) -> Any:
            if cls is asyncios and self.is_wanted(args, options):
                return self.compiled.__new__(self.compiled)
            inherited: Any = super(asyncios, cls).__new__  # type: ignore[misc]
            if inherited is object.__new__:
                return inherited(cls)
            return inherited(cls, *args, **options)

        if "__new__" not in vars(asyncios):
            # inspect.signature() of the class asks __new__() first.
            vars(new)["__signature__"] = inspect.signature(asyncios.__init__)
            asyncios.__new__ = staticmethod(new)


READER = CompiledByName("StreamReader", 1)
PROTOCOL = CompiledByName("StreamReaderProtocol", 2, below=(0, "stream_reader", READER))
WRITER = CompiledByName("StreamWriter", 3, below=(1, "protocol", PROTOCOL))


def put_into_asyncio() -> None:
    """Has asyncio's classes give compiled streams to loops that want them; once is enough."""
    for kind in (READER, PROTOCOL, WRITER):
        kind.put_into_asyncio()
