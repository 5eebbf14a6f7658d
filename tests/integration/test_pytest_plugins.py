"""pytest-asyncio and anyio's plugin, each configured by its own hook to use a loop of ours."""

from collections.abc import Callable
from pathlib import Path

import pytest

from .children import Child, python

ASYNCIO_CONFTEST = """
import functools
import aiopoll

def pytest_asyncio_loop_factories(config, item):
    return {
        backend: functools.partial(aiopoll.new_event_loop, backend=backend)
        for backend in ("aio", "epoll")
    }
"""

ASYNCIO_TESTS = """
import asyncio
import aiopoll
import pytest
import pytest_asyncio

@pytest_asyncio.fixture
async def server():
    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()

@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_loop():
    yield asyncio.get_running_loop()

@pytest.mark.asyncio
async def test_fixture_and_test_share_our_loop(server):
    assert type(asyncio.get_running_loop()) is aiopoll.EventLoop
    reader, writer = await asyncio.open_connection(*server)
    writer.write(b"said\\n")
    assert await reader.readline() == b"said\\n"
    writer.close()
    await writer.wait_closed()

@pytest.mark.asyncio(loop_scope="module")
async def test_a_loop_can_last_a_module(module_loop):
    assert asyncio.get_running_loop() is module_loop
    assert type(module_loop) is aiopoll.EventLoop

@pytest.mark.asyncio(loop_scope="module")
async def test_the_same_loop_again(module_loop):
    assert asyncio.get_running_loop() is module_loop

@pytest.mark.asyncio
@pytest.mark.xfail(raises=ZeroDivisionError, strict=True)
async def test_a_failure_is_the_tests_own():
    await asyncio.sleep(0)
    1 // 0

"""

SETTINGS = {"asyncio": "asyncio_default_fixture_loop_scope = function\n"}

ANYIO_CONFTEST = """
import functools
import aiopoll
import pytest

@pytest.fixture(scope="module", params=["aio", "epoll"])
def anyio_backend(request):
    factory = functools.partial(aiopoll.new_event_loop, backend=request.param)
    return "asyncio", {"loop_factory": factory, "debug": True}
"""

ANYIO_TESTS = """
import asyncio
import aiopoll
import anyio
import pytest

pytestmark = pytest.mark.anyio

@pytest.fixture(scope="module")
async def shared(anyio_backend):
    async with anyio.create_task_group() as tasks:
        yield asyncio.get_running_loop()
        tasks.cancel_scope.cancel()

@pytest.fixture
async def stream():
    async def echo(stream):
        async with stream:
            await stream.send(await stream.receive())

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, echo)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            yield stream
        tasks.cancel_scope.cancel()

async def test_a_fixture_of_the_module_has_our_loop(shared):
    assert type(shared) is aiopoll.EventLoop
    assert shared.get_debug()
    assert asyncio.get_running_loop() is shared

async def test_a_stream_from_a_fixture(stream, anyio_backend, shared):
    await stream.send(b"said")
    assert await stream.receive() == b"said"
    assert shared.backend == anyio_backend[1]["loop_factory"].keywords["backend"]

async def test_threads_come_back(shared):
    assert await anyio.to_thread.run_sync(anyio.from_thread.run, anyio.sleep, 0) is None
"""


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("plugin", "conftest", "tests", "passed"),
    [
        ("anyio", ANYIO_CONFTEST, ANYIO_TESTS, "6 passed"),
        ("asyncio", ASYNCIO_CONFTEST, ASYNCIO_TESTS, "6 passed, 2 xfailed"),
    ],
    ids=["anyio", "pytest-asyncio"],
)
def test_a_plugin_runs_tests_on_our_loop(
    plugin: str,
    conftest: str,
    tests: str,
    passed: str,
    start: Callable[..., Child],
    tmp_path: Path,
) -> None:
    other = {"anyio": "asyncio", "asyncio": "anyio"}[plugin]
    settings = f"[pytest]\nfilterwarnings = error\n{SETTINGS.get(plugin, '')}"
    (tmp_path / "pytest.ini").write_text(settings, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(conftest, encoding="utf-8")
    (tmp_path / "test_child.py").write_text(tests, encoding="utf-8")
    options = ["-c", "pytest.ini", "-p", f"no:{other}", "-p", "no:cacheprovider", "-v"]
    child = start(python("-m", "pytest", *options), {"PYTEST_ADDOPTS": ""}, cwd=tmp_path)
    assert child.finish() == 0, child.output
    assert f"= {passed} in" in child.output
    child.check_quiet()
