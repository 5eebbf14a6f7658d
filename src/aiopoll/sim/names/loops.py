"""asyncio.run and its relatives: every way to make an event loop gives the world's.

Facts: asyncio, uvicorn and hypercorn make loops by the policy, by `Runner`, by a factory that is
given, or by the class. uvloop and winloop are C: a loop of theirs would wait on the machine.

Rule: the policy of the process is replaced for the run, and it makes the loop of the host that
asks. So are the factories and classes of other loops, where they are installed; they are imported
once for that.
Left out: loop classes that a program derives itself: they run, as a thread runs, on the host's
selector, and the tape orders none of their steps.
"""

from __future__ import annotations

import asyncio
import asyncio.events
import asyncio.unix_events
import contextlib
import importlib
import importlib.util
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .. import inside
from ..loop import SimEventLoop
from .dispatch import Dispatcher, Replacement, Value, lookalike
from .escape import escaped

if TYPE_CHECKING:
    from ..host import Host

OTHER_LOOPS = ("uvloop", "winloop", "rloop")


class Policy:
    """The event loop policy of a run: for hosts the world's loops, elsewhere the real policy."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self._loops: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def get_event_loop(self) -> Any:
        """Return the loop of the current thread. RuntimeError if there is none."""
        host = inside.host()
        if host is None:
            return self._policy().get_event_loop()
        found = self._loops.get(host.kernel.sched.current)
        if found is None:
            raise RuntimeError("There is no current event loop in this thread of the host")
        return found

    def set_event_loop(self, loop: Any) -> None:
        host = inside.host()
        if host is None:
            self._policy().set_event_loop(loop)
        else:
            self._loops[host.kernel.sched.current] = loop

    def new_event_loop(self) -> Any:
        return self._policy().new_event_loop() if inside.host() is None else SimEventLoop()

    def _policy(self) -> Any:
        if self._real is None:
            with contextlib.suppress(AttributeError):
                asyncio.events._init_event_loop_policy()  # type: ignore[attr-defined]
        return self._real or asyncio.DefaultEventLoopPolicy()

    def __getattr__(self, name: str) -> Any:
        if name.endswith("child_watcher") and inside.host() is not None:
            raise escaped("a child watcher", "give the child a host of its own")
        return getattr(self._policy(), name)


def new_loop(host: Host, *args: Any, **kwargs: Any) -> SimEventLoop:
    return SimEventLoop()


def _nothing(host: Host, *args: Any, **kwargs: Any) -> None:
    return None


def _run(host: Host, main: Any, **kwargs: Any) -> Any:
    """asyncio.run, for the run of another loop's package."""
    known = {key: value for key, value in kwargs.items() if key in ("debug", "loop_factory")}
    known.pop("loop_factory", None)
    return asyncio.run(main, **known)


class SimPolicy(Policy):
    """What the policy classes of other loops make inside."""

    def __init__(self) -> None:
        super().__init__(None)


def _make_loop_class(original: Any) -> Any:
    return lookalike(original, new_loop, SimEventLoop, bases=(original,))


def _make_policy_class(original: Any) -> Any:
    return lookalike(original, lambda host: SimPolicy(), SimPolicy, bases=(original,))


def _calls(simulated: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda original: Dispatcher(original, simulated)


def _other(module: Any) -> Iterable[Replacement]:
    table: dict[str, Callable[[Any], Any]] = {
        "new_event_loop": _calls(new_loop),
        "run": _calls(_run),
        "install": _calls(_nothing),
    }
    for name, make in table.items():
        if name in module.__dict__:
            yield module, name, make
    for name, value in list(module.__dict__.items()):
        if name.startswith("_"):
            # Its names for the classes of asyncio.
            continue
        if isinstance(value, type) and issubclass(value, asyncio.AbstractEventLoop):
            yield module, name, _make_loop_class
        elif isinstance(value, type) and name.endswith("EventLoopPolicy"):
            yield module, name, _make_policy_class


def _asyncio_name(name: str) -> Callable[..., Any]:
    def simulated(host: Host, *args: Any, **kwargs: Any) -> Any:
        function = getattr(asyncio, name)
        if isinstance(function, Dispatcher):  # the package's own: accelerate_streams() put it there
            function = function.original
        return function(*args, **kwargs)

    return simulated


# The loop's names in the package itself, which are imported at their first use.
OWN: dict[str, Callable[..., Any]] = {
    "run": _run,
    "new_event_loop": new_loop,
    "EventLoop": new_loop,
    "install": _nothing,
    "alias_uvloop": _nothing,
    "accelerate_streams": _nothing,
    "open_connection": _asyncio_name("open_connection"),
    "open_unix_connection": _asyncio_name("open_unix_connection"),
    "start_server": _asyncio_name("start_server"),
    "start_unix_server": _asyncio_name("start_unix_server"),
}


class Late:
    """What stands for a name of a module that is not imported yet."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name
        self.__qualname__: str = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        package = sys.modules[self._module]
        return package.__getattr__(self._name)(*args, **kwargs)


def _late(module: str, name: str, simulated: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda original: Dispatcher(Late(module, name), simulated)


def late() -> Iterable[Replacement]:
    """Yield what may have been imported since the last run: the names of the package itself."""
    package = sys.modules[__name__.partition(".")[0]]
    for name, simulated in OWN.items():
        if name in package.__dict__:
            value = package.__dict__[name]
            if isinstance(value, type):
                yield package, name, _make_loop_class
            else:
                yield package, name, _calls(simulated)
        else:
            yield package, name, _late(package.__name__, name, simulated)


def replacements() -> Iterable[Replacement]:
    unix = asyncio.unix_events
    yield unix, "_UnixSelectorEventLoop", _make_loop_class
    # The policy of asyncio, by its name in each version, holds the class as an attribute.
    for policy in {value for value in vars(unix).values() if isinstance(value, type)}:
        if "_loop_factory" in policy.__dict__:
            yield policy, "_loop_factory", _make_loop_class
    for name in OTHER_LOOPS:
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            continue
        with contextlib.suppress(Exception):
            yield from _other(importlib.import_module(name))


def values() -> Iterable[Value]:
    events: Any = asyncio.events
    yield events, "_event_loop_policy", lambda: Policy(events._event_loop_policy)
