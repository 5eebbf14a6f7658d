"""What leaves the world raises Escaped with the line; patches do not nest, and are cheap."""

import _socket
import _thread
import asyncio
import ctypes
import datetime
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
import weakref
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from subprocess import run as bound_run
from typing import Any

import pytest

from aiopoll.sim import Escaped, World
from aiopoll.sim.names import installed
from aiopoll.sim.names.patching import Patches, dict_of

from .inside_world import inside

# In class bodies and lists nothing is replaced: the audit hook sees these.
BEFORE: dict[str, Any] = {
    "start": _thread.start_new_thread,
    "socket": _socket.socket,
    "open": os.open,
    "mkdir": os.mkdir,
    "kill": os.kill,
    "fork": os.fork,
}

ESCAPES: dict[str, Callable[[], Any]] = {
    "a subprocess": lambda: subprocess.run(["true"], check=False),
    "a subprocess of a bound name": lambda: bound_run(["true"], check=False),
    "system": lambda: os.system("true"),
    "popen": lambda: os.popen("true"),
    "fork": lambda: os.fork(),
    "a bound fork": lambda: BEFORE["fork"](),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "waitpid": lambda: os.waitpid(-1, 0),
    "multiprocessing": lambda: multiprocessing.Process(target=print).start(),
    "a pool of processes": lambda: ProcessPoolExecutor(1),
    "a bound socket": lambda: BEFORE["socket"](),
    "a bound kill": lambda: BEFORE["kill"](os.getppid() or 1, 0),
    "a bound open": lambda: BEFORE["open"]("/tmp/escaped", os.O_CREAT | os.O_WRONLY),
    "a bound mkdir": lambda: BEFORE["mkdir"]("/tmp/escaped"),
    "a library": lambda: ctypes.CDLL("libm.so.6"),
}

if sys.version_info >= (3, 12):
    # Before, CPython raises no event for it.
    ESCAPES["a bound thread"] = lambda: BEFORE["start"](print, ())


@pytest.mark.parametrize("what", ESCAPES)
def test_what_leaves_the_world_is_refused(what: str) -> None:
    call = ESCAPES[what]
    with pytest.raises(Escaped) as caught:
        inside(call)
    line = f"{__file__}:{call.__code__.co_firstlineno}"
    assert line in str(caught.value)
    assert "outside of the simulated world" in str(caught.value)
    assert not os.path.exists("/tmp/escaped")


def test_the_hook_lets_the_rest_of_the_process_be(tmp_path: Path) -> None:
    """A thread of the process works as ever while a world runs."""
    found: list[Any] = []
    go, done = threading.Event(), threading.Event()

    def outside() -> None:
        go.wait()
        try:
            found.append(time.time() > 1_600_000_000)
            (tmp_path / "file").write_text("x", encoding="utf-8")
            found.append(subprocess.run(["true"], check=False).returncode)
            sock = BEFORE["socket"]()
            found.append(sock.fileno() >= 0)
            sock.close()
            found.append(os.getpid() != 1)
        finally:
            done.set()

    thread = threading.Thread(target=outside)
    thread.start()
    events = [go, done]

    def program() -> None:
        real_set, real_wait = events[0].set, events[1]
        real_set()
        while not real_wait.is_set():
            pass

    inside(program)
    thread.join()
    assert found == [True, 0, True, True]


def test_imports_inside_may_read_and_keep_byte_code(tmp_path: Path) -> None:
    (tmp_path / "imported_inside.py").write_text(
        textwrap.dedent("""
            from time import time, monotonic
            from random import random
            from threading import Lock, RLock, local
            lock, reentrant, own = Lock(), RLock(), local()
            def when():
                with lock, reentrant:
                    own.x = 1
                return monotonic()
        """),
        encoding="utf-8",
    )

    def program() -> Any:
        import imported_inside  # type: ignore[import-not-found]

        time.sleep(2)
        return imported_inside.when()

    sys.path.insert(0, str(tmp_path))
    try:
        assert inside(program) == 2.0
        module = sys.modules["imported_inside"]
        # Restored, although it bound the stand-ins; and replaced again in the next run.
        assert module.time is time.time
        assert isinstance(module.random, types.BuiltinFunctionType)
        assert type(module.lock) is _thread.LockType
        assert type(module.reentrant) is _thread.RLock
        assert type(module.own) is threading.local
        assert inside(program) == 2.0
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("imported_inside", None)


def test_worlds_do_not_nest() -> None:
    def program() -> None:
        inside(lambda: None)

    with pytest.raises(RuntimeError, match="a world runs already"):
        inside(program)
    with (
        installed(None),  # type: ignore[arg-type]
        pytest.raises(RuntimeError, match="do not nest"),
        installed(None),  # type: ignore[arg-type]
    ):
        pass
    assert inside(lambda: time.time()) == 1_522_281_600.0


def test_a_mock_of_before_the_run_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 5.0)
    mock = time.time
    assert inside(lambda: time.time()) == 5.0
    assert time.time is mock


def nothing(value: Any) -> None:
    return None


class Slotted(asyncio.Protocol):
    __slots__ = ()


lock_of_the_module = threading.Lock()
local_of_the_module = threading.local()


class Owner:
    def method(self) -> str:
        return "original"


def test_every_place_is_restored_after_an_error() -> None:
    module = types.ModuleType("module_of_the_test")
    other = types.ModuleType("other_of_the_test")
    original = object()
    module.thing = original  # type: ignore[attr-defined]
    other.bound = original  # type: ignore[attr-defined]
    sys.modules[module.__name__], sys.modules[other.__name__] = module, other
    stand_in, method = object(), Owner.method

    def failing() -> Any:
        yield module, "value", lambda: 5
        raise ZeroDivisionError

    def replacements() -> Any:
        yield module, "thing", lambda original: stand_in
        yield Owner, "method", lambda original: lambda self: "stand-in"
        yield Owner, "__hash__", lambda original: lambda self: 5

    try:
        patches = Patches(replacements(), lambda: (), lambda: (), nothing, nothing)
        patches.install()
        assert module.thing is other.bound is stand_in  # type: ignore[attr-defined]
        assert Owner().method() == "stand-in"
        assert hash(Owner()) == 5
        patches.restore()
        assert module.thing is other.bound is original  # type: ignore[attr-defined]
        patches = Patches(replacements(), lambda: (), failing, nothing, nothing)
        with pytest.raises(ZeroDivisionError):
            patches.install()
        assert module.thing is other.bound is original  # type: ignore[attr-defined]
        assert not hasattr(module, "value")
        assert Owner.method is method
        assert "__hash__" not in Owner.__dict__
    finally:
        del sys.modules[module.__name__], sys.modules[other.__name__]


def test_no_world_is_kept_when_it_is_over() -> None:
    """Locks, locals, timers and numbers of a world go with it."""
    worlds: list[Any] = []

    def program(world: World) -> None:
        worlds.append(weakref.ref(world))
        with lock_of_the_module:
            local_of_the_module.x = hash(asyncio.Event())
        signal.setitimer(signal.ITIMER_REAL, 5, 5)
        hash(Slotted())
        time.sleep(1)
        thread = threading.Thread(target=time.sleep, args=(100,))
        thread.start()

    inside(program)
    gc.collect()
    assert worlds[0]() is None


def test_the_dict_of_a_class_of_c_is_found() -> None:
    assert dict_of(datetime.datetime)["now"] is datetime.datetime.__dict__["now"]
