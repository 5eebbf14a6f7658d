"""Where a program's loops come from: install() for asyncio, alias_uvloop() for programs that
import uvloop.

Facts.  A program says which loop it wants by a loop factory, by the event loop policy, or by
importing uvloop by name.  Python 3.14 deprecates policies, and a later one removes them.
"""

import asyncio
import sys
import types
from asyncio import events, unix_events
from collections.abc import Awaitable, Callable, Coroutine
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any, TypeVar

from aiopoll import __version__
from aiopoll.loop.event_loop import EventLoop, new_event_loop, run_on

_T = TypeVar("_T")

# Under this name on every Python that has policies; the public name warns from 3.14 on.
if TYPE_CHECKING:
    from asyncio.unix_events import _UnixDefaultEventLoopPolicy as _PolicyBase
else:
    _PolicyBase = getattr(unix_events, "_UnixDefaultEventLoopPolicy", object)


class EventLoopPolicy(_PolicyBase):
    """asyncio's event loop policy, making EventLoops; for programs that still set a policy.

    Raises RuntimeError where Python has no policies any more.
    """

    _loop_factory = EventLoop

    def __init__(self) -> None:
        if _PolicyBase is object:
            raise RuntimeError(
                "this Python has no event loop policies: give asyncio.run() or asyncio.Runner()"
                " loop_factory=aiopoll.new_event_loop, or call aiopoll.install()"
            )
        super().__init__()


def install() -> None:
    """Makes asyncio's new loops, in every thread, EventLoops: asyncio.run() then runs on one.

    By an EventLoopPolicy; where Python has no policies, by replacing asyncio.new_event_loop.
    """
    set_policy: Callable[[Any], None] | None = getattr(
        events, "_set_event_loop_policy", getattr(events, "set_event_loop_policy", None)
    )
    if _PolicyBase is not object and set_policy is not None:
        set_policy(EventLoopPolicy())
    else:
        asyncio.new_event_loop = events.new_event_loop = new_event_loop


def alias_uvloop() -> types.ModuleType:
    """Makes `import uvloop` give this loop, for programs that name uvloop; returns the module.

    It has uvloop's public names (run, new_event_loop, install, Loop, EventLoopPolicy,
    __version__), which are ours.  Doing so again changes nothing.
    Raises RuntimeError if the real uvloop has been imported: what holds it would keep it.
    """
    present = sys.modules.get("uvloop")
    if present is not None:
        if getattr(present, "Loop", None) is EventLoop:
            return present
        raise RuntimeError(
            "uvloop has been imported already, from"
            f" {getattr(present, '__file__', None) or 'an unknown place'}: call"
            " aiopoll.alias_uvloop() before anything that imports it"
        )
    module = types.ModuleType("uvloop", "aiopoll's event loop under uvloop's names.")
    # importlib.util.find_spec() is how many look whether uvloop is there.
    module.__spec__ = ModuleSpec("uvloop", _Made(module), origin="aiopoll.alias_uvloop()")
    vars(module).update(
        EventLoopPolicy=EventLoopPolicy,
        Loop=EventLoop,
        __all__=("new_event_loop", "install", "run", "EventLoopPolicy", "Loop"),
        __version__=__version__,
        install=install,
        new_event_loop=new_event_loop,
        run=_uvloop_run,
    )
    sys.modules["uvloop"] = module
    return module


class _Made(Loader):
    """The loader of a module that is there: imports by its spec need one."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return self._module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _uvloop_run(
    main: Awaitable[_T],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = new_event_loop,
    debug: bool | None = None,
) -> _T:
    """uvloop.run: what asyncio.run does, of any awaitable, with uvloop's keyword arguments."""
    coroutine: Coroutine[Any, Any, _T] = main if isinstance(main, Coroutine) else _awaited(main)
    return run_on(loop_factory, coroutine, debug)


async def _awaited(main: Awaitable[_T]) -> _T:
    return await main
