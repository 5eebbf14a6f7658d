"""Fixtures of every test folder: both ways of reaping, the kinds of loop."""

import asyncio
import gc
import importlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from tests.support.children import Waiter, call_in_child
from tests.support.loops import CHILD_SECONDS_MAX, LOOPS, WAITS, until
from tests.support.tls import tls_contexts

from aiopoll import Context

# A delay on a busy machine is no failure.
hypothesis.settings.register_profile(
    "any time", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any time")

PACKAGE = Path(__file__).parents[1] / "src" / "aiopoll"
INCLUDES = [f"-I{PACKAGE / room / 'c'}" for room in ("aio", "reactor", "loop/monitor")]

CORE = ("aio", "conformance", "files", "loop", "reactor")
"""The folders whose tests are marked `vm`, but for the slow ones."""


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] in CORE and not item.get_closest_marker("slow"):
            item.add_marker("vm")


@hypothesis.settings(max_examples=1, database=None)
@hypothesis.given(hypothesis.strategies.none())
def use_hypothesis(nothing: None) -> None:
    """Its first use asks for the referrers of `random`, which gc does not find once frozen."""


@pytest.fixture(scope="session", autouse=True)
def collections_see_only_what_tests_make() -> Iterator[None]:
    """Many tests collect, and the imported modules of a whole suite would slow each collection."""
    use_hypothesis()
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def functions_are_freed() -> None:
    """Without a GIL Python 3.13 frees no function once a thread was started, nor what it holds."""
    with suppress(ImportError, AttributeError):
        importlib.import_module("_testinternalcapi").suppress_immortalization(True)


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_taken() -> None:
    """A shell's background jobs ignore SIGINT, and so would the tests of KeyboardInterrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=[True, False], ids=["ring-reap", "syscall-reap"])
def user_ring(request: pytest.FixtureRequest) -> bool:
    """Whether events are reaped from the mapped ring; tests that use it run both ways."""
    return bool(request.param)


@pytest.fixture
def context(user_ring: bool) -> Iterator[Context]:
    with Context(64, user_ring=user_ring) as context:
        yield context


LOOP_OPTIONS: dict[str, dict[str, Any]] = {
    "aio": {"backend": "aio"},
    "epoll": {"backend": "epoll"},
    "nr_events=1": {"backend": "aio", "nr_events": 1},  # nearly all files in the epoll set
    **{wait: {"backend": "auto"} for wait in WAITS},
}


@pytest.fixture(params=LOOP_OPTIONS)
def loop_options(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments of new_event_loop(); tests that use it run on each kind of loop."""
    if request.param in WAITS:
        monkeypatch.setenv("AIOPOLL_WAIT", request.param)
    return LOOP_OPTIONS[request.param]


@pytest.fixture
def soak() -> Callable[[int], int]:
    """How many of something: the environment variable AIOPOLL_SOAK multiplies it (make soak)."""
    factor = int(os.environ.get("AIOPOLL_SOAK", "1"))
    return lambda count: count * factor


@pytest.fixture(params=["aio", *WAITS, "epoll"])
def loop_kind(request: pytest.FixtureRequest) -> Any:
    """The kind of `loop`, one of LOOPS; a module may have a fixture of this name with others."""
    return request.param


@pytest.fixture
def loop(loop_kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A loop, which must be left with no file but its own."""
    if loop_kind == "syscall-reap":
        monkeypatch.setenv("AIOPOLL_USER_RING", "0")
    loop = LOOPS[loop_kind]()
    yield loop
    if loop_kind != "asyncio" and loop.statistics().watched != 1:
        # The other end of a connection may see the end only now.
        own = until(lambda: loop.statistics().watched == 1)
        loop.run_until_complete(asyncio.wait_for(own, CHILD_SECONDS_MAX))
    loop.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """An empty pipe, non-blocking; the test may close its ends."""
    ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass


@pytest.fixture
def eventfd() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    yield fd
    os.close(fd)


@pytest.fixture
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection: out-of-band data needs TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        yield client, server


@pytest.fixture
def server_context() -> ssl.SSLContext:
    return tls_contexts()[0]


@pytest.fixture
def client_context() -> ssl.SSLContext:
    return tls_contexts()[1]


@pytest.fixture
def plain_file(tmp_path: Path) -> Iterator[int]:
    """A regular file that holds `0123456789`, open for reading and writing."""
    path = tmp_path / "plain"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    yield fd
    os.close(fd)


@pytest.fixture
def in_child() -> Callable[[Callable[[], object]], str]:
    """Calls a function in a forked child and returns its result or exception, as text."""
    return call_in_child


@pytest.fixture
def waiter() -> type[Waiter]:
    return Waiter


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Callable[[str], str]]:
    """Compiles a program, and returns a function of its input that returns its output."""
    compiler = shutil.which("gcc")
    assert compiler, "apt-get install gcc"

    def compile_it(text: str) -> Callable[[str], str]:
        folder = tmp_path_factory.mktemp("program")
        (folder / "program.c").write_text(text, encoding="ascii")
        command = [compiler, "-D_GNU_SOURCE", "-Wall", "-Werror", *INCLUDES]
        subprocess.run([*command, "-o", folder / "program", folder / "program.c"], check=True)

        def run(given: str) -> str:
            return subprocess.run(
                [folder / "program"], input=given, check=True, capture_output=True, text=True
            ).stdout

        return run

    return compile_it
