"""Makes the loops of this process ours, as `aiopoll run` promises, and reports those that are not.

Rule.  SelectorEventLoop() without a selector makes an EventLoop: asyncio.run, Runner,
new_event_loop, the default policy and programs that name the class all come to it.  A class
derived from it keeps its code, and waits by selectors.DefaultSelector, which is AioSelector.
What a program sets explicitly, as a policy, a loop factory or a selector, is its own.

Libraries that take uvloop "if it is there" are not asked for it by anyone: for the function that
looks (TASTES), uvloop is not there, and the library takes asyncio's loop.
"""

import asyncio
import functools
import os
import selectors
import sys
from asyncio import unix_events
from collections.abc import Callable
from typing import Any

from aiopoll.cli.startup.sitecustomize import (
    ALIAS,
    METRICS,
    OPTIONS,
    TASTES,
    AtImport,
    watch_loops,
)
from aiopoll.loop import EventLoop, alias_uvloop
from aiopoll.loop.monitor.tracing import require_trace_of_process
from aiopoll.selector import AioSelector

STARTUP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "startup")

_taken_over = False
_MISSING = object()
_RUNNERS = {"asyncio", "uvloop", "rloop", "aiopoll", "sitecustomize"}
"""Modules whose frames are not where a program runs a loop."""


def take_over(alias: bool) -> None:
    """Makes the loops that asyncio creates from now on ours, here and in forked processes.

    alias: whether uvloop's loops are, too.
    """
    global _taken_over
    if alias:
        alias_uvloop()
    if address := os.environ.get(METRICS):
        from aiopoll.cli.metrics import expose_loops  # others need no HTTP server

        expose_loops(address)
    if _taken_over:  # by the environment, before `aiopoll run` in it
        return
    _taken_over = True
    _replace_loops()
    _correct_tastes()
    watch_loops(describe, quiet=(EventLoop,))


def hand_on(alias: bool) -> None:
    """Has the processes that this one starts do the same, by their environment."""
    os.environ[OPTIONS] = ALIAS if alias else "on"
    present = os.environ.get("PYTHONPATH")
    if not present:
        os.environ["PYTHONPATH"] = STARTUP
    elif present.split(os.pathsep)[0] != STARTUP:
        os.environ["PYTHONPATH"] = STARTUP + os.pathsep + present


def trace_processes(path: str | None, number: str | None, last: str | None) -> None:
    """Has this process, and those that it starts, write what their loops did.

    Raises OSError where no file can be made there, ValueError for a wrong signal or time.
    """
    given = {"AIOPOLL_TRACE": path, "AIOPOLL_TRACE_SIGNAL": number, "AIOPOLL_TRACE_LAST": last}
    wanted = {name: value for name, value in given.items() if value is not None}
    if wanted:
        os.environ.update(wanted)
        os.environ.pop("AIOPOLL_TRACE_OWNER", None)  # a traced program may start another
        require_trace_of_process()


def _replace_loops() -> None:
    selectors.DefaultSelector = AioSelector  # type: ignore[misc, assignment]
    plain: Any = unix_events._UnixSelectorEventLoop

    def new(cls: Any, *args: object, **options: object) -> object:
        # type() then calls __init__ of what it gets: the constructor of an EventLoop.
        if cls is plain and not args and not options:
            cls = EventLoop
            return cls.__new__(cls)
        return object.__new__(cls)

    plain.__new__ = new


def describe(loop: object) -> str:
    """Returns the report of a loop of another kind, in one line; "" for one on AIO poll."""
    cls = type(loop)
    if isinstance(loop, EventLoop):
        return ""
    name = f"{cls.__module__}.{cls.__qualname__}"
    selector = type(getattr(loop, "_selector", None))
    if selector.__module__.partition(".")[0] == "aiopoll":
        return ""
    library = cls.__module__.partition(".")[0]
    if library == "uvloop":
        advice = "aiopoll run --alias-uvloop replaces uvloop"
        if "uvicorn" in sys.modules:
            advice += ", as does uvicorn's --loop auto or --loop asyncio"
    elif isinstance(loop, asyncio.SelectorEventLoop):
        name += f" on {selector.__name__}"
        advice = "make it without a selector, or with aiopoll.AioSelector()"
    else:
        advice = "let the program use asyncio's loop (uvicorn: --loop asyncio)"
        advice += ", or give it aiopoll.new_event_loop"
    return f"another loop runs, {name}, from {_origin(loop)}: {advice}"


def _origin(loop: object) -> str:
    """Returns the file and line that runs the loop; most have had it made as well."""
    frame = sys._getframe()
    while frame.f_back is not None:
        module = str(frame.f_globals.get("__name__")).partition(".")[0]
        if module not in _RUNNERS and frame.f_locals.get("self") is not loop:
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _correct_tastes() -> None:
    for name in TASTES:
        module = sys.modules.get(name)
        # sitecustomize does it for those that are half-made.
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            correct(module)
    AtImport(dict.fromkeys(TASTES, correct))


def correct(module: Any) -> None:
    """Has a module of TASTES not look for uvloop.

    A library's other version may lack what is corrected: it stays as it is, and is reported.
    """
    try:
        _CORRECTIONS.pop(module.__name__, lambda _: None)(module)
    except AttributeError:
        pass


def _without_uvloop(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function as it is where uvloop cannot be imported."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        present = sys.modules.get("uvloop", _MISSING)
        sys.modules["uvloop"] = None  # type: ignore[assignment]
        try:
            return function(*args, **options)
        finally:
            if present is _MISSING:
                del sys.modules["uvloop"]
            else:
                sys.modules["uvloop"] = present  # type: ignore[assignment]

    return call


def _uvicorn(module: Any) -> None:
    # The first until 0.35, the second from 0.36 on.
    for name in ("auto_loop_setup", "auto_loop_factory"):
        if hasattr(module, name):
            setattr(module, name, _without_uvloop(getattr(module, name)))


def _gunicorn(module: Any) -> None:
    original = module.ASGIWorker._setup_event_loop

    def _setup_event_loop(self: Any) -> None:
        chosen = getattr(self.cfg, "asgi_loop", "auto") != "auto"
        (original if chosen else _without_uvloop(original))(self)

    module.ASGIWorker._setup_event_loop = _setup_event_loop


def _sanic(module: Any) -> None:
    original = module.StartupMixin.setup_loop

    def setup_loop(self: Any) -> None:
        if self.config.USE_UVLOOP is True:
            original(self)

    module.StartupMixin.setup_loop = setup_loop


def _granian(module: Any) -> None:
    module.loops._data["auto"] = module.loops._data["asyncio"]


_CORRECTIONS: dict[str, Callable[[Any], None]] = dict(
    zip(TASTES, (_uvicorn, _gunicorn, _sanic, _granian), strict=True)
)
"""What to do about the modules of TASTES, once each."""
