"""Loops of every kind that files run on, and a check for leaks after each module."""

import asyncio
import contextlib
import gc
import importlib.util
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from tests.support.descriptors import open_count, rings

import aiopoll
from aiopoll.aio import context_cache as context_pool

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def uvloop_run(main: Coroutine[Any, Any, Any]) -> Any:
    uvloop = pytest.importorskip("uvloop", reason="skips.toml: files on uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


RUNS: dict[str, Run] = {
    "aio": lambda main: aiopoll.run(main, backend="aio"),
    "epoll": lambda main: aiopoll.run(main, backend="epoll"),
    "asyncio": asyncio.run,
    "uvloop": uvloop_run,
}


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> Run:
    """run(coroutine) on each kind of loop: ours on its ring, ours on epoll, two others."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop", reason="skips.toml: files on uvloop")
    return RUNS[request.param]


def contexts() -> int:
    """AIO contexts of this process, but for the one that is kept: each has its ring mapped."""
    context_pool.release()
    return rings()


@pytest.fixture(scope="session", autouse=True)
def every_loop_has_run() -> None:
    """Files that a loop's library opens once for the process are no leak."""
    for name, run in RUNS.items():
        if name != "uvloop" or importlib.util.find_spec("uvloop"):
            run(asyncio.sleep(0))


@pytest.fixture(scope="module", autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Checks once a module: the kernel takes 30 ms to destroy a context."""
    gc.collect()
    before = (open_count(), contexts())
    yield
    gc.collect()
    assert (open_count(), contexts()) == before


@pytest.fixture
def small_files() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """with small_files(n): no file of this process grows beyond n bytes (RLIMIT_FSIZE).

    Not for longer than the calls it is for: pytest's own output may go to a file.
    """
    import resource
    import signal

    @contextlib.contextmanager
    def limited(size: int) -> Iterator[None]:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            with contextlib.suppress(TypeError):
                signal.signal(signal.SIGXFSZ, handler)

    return limited
