"""The harness detects each fault that it checks for."""

import asyncio
import os
import socket
import threading

import pytest
from tests.support.descriptors import open_files

from .children import Child, python
from .harness import run_clean


def test_a_clean_scenario_passes_and_gives_its_result(backend: str) -> None:
    async def main() -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read())
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"said")
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            return answer.decode()

    assert run_clean(main, backend) == "said"


def test_a_descriptor_left_open_is_seen(backend: str) -> None:
    left: list[int] = []

    async def main() -> None:
        left.extend(os.pipe())

    with pytest.raises(AssertionError, match="descriptors left"):
        run_clean(main, backend)
    for fd in left:
        os.close(fd)


def test_a_task_left_running_is_seen(backend: str) -> None:
    async def main() -> None:
        main.task = asyncio.create_task(asyncio.Event().wait())  # type: ignore[attr-defined]

    with pytest.raises(AssertionError, match="tasks left"):
        run_clean(main, backend, end_limit_s=0.01)


def test_a_file_left_watched_is_seen(backend: str) -> None:
    ours, theirs = socket.socketpair()

    async def main() -> None:
        asyncio.get_running_loop().add_reader(ours, print)

    with pytest.raises(AssertionError, match="files left"):
        run_clean(main, backend, end_limit_s=0.01)
    ours.close()
    theirs.close()


def test_harness_detects_a_report_to_the_handler(backend: str) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run_clean(main, backend)


def test_a_thread_left_is_seen(backend: str) -> None:
    end = threading.Event()

    async def main() -> None:
        threading.Thread(target=end.wait).start()

    with pytest.raises(AssertionError, match="threads left"):
        run_clean(main, backend, end_limit_s=0.01)
    end.set()


@pytest.mark.subprocess
def test_child_that_ends_early_shows_its_output() -> None:
    before = open_files()
    child = Child(python("-c", "print('some words')"))
    assert child.wait_for("words") == "some words"
    with pytest.raises(AssertionError, match="some words"):
        child.wait_for("never printed")
    child.kill()
    assert open_files() == before
