"""loop.dump(): what the loop and its tasks do and wait for."""

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.loops import CHILD_SECONDS_MAX
from tests.support.threads import HAS_GIL

import aiopoll
from aiopoll.loop.monitor.records import AwaitDump, AwaitKind, LoopState, TaskDump, TaskState


async def dumped(awaitable: Callable[[], Awaitable[Any]], **options: Any) -> TaskDump:
    """The record of a task that awaits what the function returns, once it waits."""
    loop: Any = asyncio.get_running_loop()

    async def wait() -> None:
        await awaitable()

    task = asyncio.create_task(wait(), name="the one")
    try:
        while True:
            await asyncio.sleep(0.001)
            found: TaskDump = {each.name: each for each in loop.dump(**options).tasks}["the one"]
            assert not task.done()
            if found.state is TaskState.WAITING:
                return found
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def awaited(awaitable: Callable[[], Awaitable[Any]]) -> AwaitDump:
    found = (await dumped(awaitable)).awaits
    assert found is not None
    return found


async def numbers() -> AsyncIterator[int]:
    await asyncio.Event().wait()
    yield 1


async def first() -> int:
    async for number in numbers():
        return number
    return 0


async def held_lock() -> None:
    lock = asyncio.Lock()
    await lock.acquire()
    await lock.acquire()


async def in_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(1000), name="member")


async def gathered() -> None:
    await asyncio.gather(asyncio.Event().wait(), asyncio.Event().wait())


async def shielded_sleep() -> None:
    await asyncio.shield(asyncio.ensure_future(asyncio.sleep(1000)))


@pytest.mark.parametrize(
    ("awaitable", "kind", "text"),
    [
        (lambda: asyncio.sleep(1000), AwaitKind.SLEEP, "sleep, "),
        (held_lock, AwaitKind.LOCK, "Lock.acquire() of Lock"),
        (lambda: asyncio.Event().wait(), AwaitKind.EVENT, "Event.wait() of Event"),
        (lambda: asyncio.Queue(7).get(), AwaitKind.QUEUE, "0 of 7"),
        (first, AwaitKind.EVENT, "Event.wait() of Event"),
        (in_group, AwaitKind.TASKS, "task group with 1 not done: 'member'"),
        (gathered, AwaitKind.TASKS, "gather of 2 not done"),
        (lambda: asyncio.get_running_loop().create_future(), AwaitKind.FUTURE, "Future at 0x"),
    ],
    ids=["sleep", "lock", "event", "queue", "generator", "group", "gather", "future"],
)
def test_a_task_says_what_it_awaits(
    loop: aiopoll.EventLoop, awaitable: Any, kind: AwaitKind, text: str
) -> None:
    found = loop.run_until_complete(awaited(awaitable))
    assert found.kind is kind
    assert text in found.text


def test_a_sleep_says_for_how_long(loop: aiopoll.EventLoop) -> None:
    found = loop.run_until_complete(awaited(lambda: asyncio.sleep(1000)))
    assert found.seconds is not None
    assert 0 < found.seconds <= 1000


def test_another_task_is_named(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> tuple[AwaitDump, AwaitDump]:
        other = asyncio.create_task(asyncio.sleep(1000), name="other")
        try:
            both = asyncio.wait([other])
            return await awaited(lambda: asyncio.shield(other)), await awaited(lambda: both)
        finally:
            other.cancel()

    shielded, waited = loop.run_until_complete(scenario())
    assert shielded.task == "other"
    assert waited.text == "wait for 1 not done: 'other'"


def test_a_deadline_is_shown(loop: aiopoll.EventLoop) -> None:
    async def wait() -> None:
        async with asyncio.timeout(500):
            await asyncio.Event().wait()

    found = loop.run_until_complete(dumped(wait))
    assert found.deadline is not None
    assert 0 < found.deadline <= 500


@pytest.mark.parametrize(
    "call",
    [
        "sock_recv",
        "sock_recv_into",
        "sock_recvfrom",
        "sock_recvfrom_into",
        "sock_accept",
        "sock_sendall",
    ],
)
def test_a_sock_call_names_its_descriptor(loop: aiopoll.EventLoop, call: str) -> None:
    ours, theirs = socket.socketpair()
    if call == "sock_accept":
        ours.close()
        ours = socket.create_server(("127.0.0.1", 0))
    ours.setblocking(False)
    into: Any = {"sock_recv": (9,), "sock_recvfrom": (9,), "sock_accept": ()}.get(
        call, (bytearray(1 << 24),)
    )
    with ours, theirs:
        found = loop.run_until_complete(awaited(lambda: getattr(loop, call)(ours, *into)))
        assert found == AwaitDump(AwaitKind.SOCKET, f"{call} of fd {ours.fileno()}", fd=found.fd)
        assert found.fd == ours.fileno()


def test_a_stream_names_its_descriptor(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> AwaitDump:
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            return await awaited(reader.readline)
        finally:
            writer.close()

    ours, theirs = socket.socketpair()
    fd = ours.fileno()
    with theirs:
        found = loop.run_until_complete(scenario())
    assert found.kind is AwaitKind.STREAM
    assert found.text == f"StreamReader.readline() of fd {fd}"


def test_a_file_request_names_its_file(loop: aiopoll.EventLoop, tmp_path: Path) -> None:
    path = tmp_path / "file"

    async def scenario() -> Any:
        async with aiopoll.open(path, "wb", buffering=0) as file:

            async def write() -> None:
                await file.pwrite(b"bytes", 3)

            loop.dump()
            task = asyncio.create_task(write(), name="writes")
            await asyncio.sleep(0)  # the task's step runs before this one's next
            dump = loop.dump()
            await task
            return dump

    dump = loop.run_until_complete(scenario())
    found = {each.name: each for each in dump.tasks}["writes"].awaits
    assert found is not None
    assert found.kind is AwaitKind.FILE
    assert f"write of 5 bytes at 3 of {str(path)!r}, " in found.text
    [request] = dump.requests
    assert (request.kind, request.file, request.offset, request.size) == ("write", str(path), 3, 5)
    assert request.seconds is not None  # it began after a dump
    assert request.seconds >= 0


def test_a_call_in_a_thread_is_shown(loop: aiopoll.EventLoop) -> None:
    release = threading.Event()

    async def scenario() -> Any:
        found = asyncio.ensure_future(asyncio.to_thread(release.wait))
        await asyncio.sleep(0.05)
        dump = loop.dump()
        release.set()
        await found
        return dump

    dump = loop.run_until_complete(scenario())
    [executor] = dump.executors
    assert executor.name == "default executor"
    assert any("Event.wait" in line.function for each in executor.threads for line in each.stack)
    [waiting] = [each.awaits for each in dump.tasks if each.state is TaskState.WAITING]
    assert waiting.kind is AwaitKind.THREAD


async def innermost() -> None:
    await asyncio.sleep(1000)


async def middle() -> None:
    await innermost()


def test_the_stack_follows_awaits_innermost_last(loop: aiopoll.EventLoop) -> None:
    found = loop.run_until_complete(dumped(middle))
    assert [line.function for line in found.stack] == [
        "dumped.<locals>.wait",
        "middle",
        "innermost",
        "sleep",
    ]
    assert found.stack[1].file == __file__
    assert found.stack[1].line == middle.__code__.co_firstlineno + 1


def test_the_running_task_has_the_lines_it_called(loop: aiopoll.EventLoop) -> None:
    def called() -> Any:
        return loop.dump()

    async def scenario() -> Any:
        return called()

    dump = loop.run_until_complete(scenario())
    [task] = dump.tasks
    assert task.state is TaskState.RUNNING
    names = [line.function.rpartition(".")[2] for line in task.stack]
    assert names[:2] == ["scenario", "called"]
    assert dump.state is LoopState.RUNNING
    assert [line.function.rpartition(".")[2] for line in dump.thread.stack][-1] == names[-1]


def test_debug_mode_says_where_a_task_was_made(loop: aiopoll.EventLoop) -> None:
    loop.set_debug(True)
    found = loop.run_until_complete(dumped(lambda: asyncio.sleep(1000)))
    assert any(line.function == "dumped" for line in found.made_at)
    loop.set_debug(False)
    assert loop.run_until_complete(dumped(lambda: asyncio.sleep(1000))).made_at == ()


def test_descriptors_have_their_use_and_addresses(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> Any:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        listener = server.sockets[0].getsockname()
        _, writer = await asyncio.open_connection(*listener)
        ours, theirs = socket.socketpair()
        loop.add_reader(ours, print)
        loop.add_writer(ours, int)
        dump = loop.dump()
        loop.remove_reader(ours)
        loop.remove_writer(ours)
        writer.close()
        server.close()
        ours.close()
        theirs.close()
        return dump, listener[1]

    dump, port = loop.run_until_complete(scenario())
    uses = {each.reader: each for each in dump.descriptors}
    assert uses["listener"].kind == "TCP listener"
    assert uses["listener"].local == f"127.0.0.1:{port}"
    assert uses["print"].writer == "int"
    assert uses["print"].kind == "Unix"
    assert uses["SocketTransport"].peer == f"127.0.0.1:{port}"
    assert uses["SocketTransport"].owned
    for each in dump.descriptors:
        assert each.where == ("ring" if each.state.startswith("RING") else "epoll set")
        assert bool(each.armed) == (each.where == "ring")


def test_looking_leaves_the_number_to_the_loop(loop: aiopoll.EventLoop) -> None:
    """A socket object that is made for a dump would take the number from the ring."""

    async def scenario() -> tuple[Any, Any]:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        both = loop.dump().descriptors, loop.dump().descriptors
        writer.close()
        server.close()
        return both

    before, after = loop.run_until_complete(scenario())
    assert [dataclasses.replace(each, state="") for each in before] == [
        dataclasses.replace(each, state="") for each in after
    ]
    assert any(each.owned for each in after)


def test_timers_are_in_order_and_limited(loop: aiopoll.EventLoop) -> None:
    handles = [loop.call_later(delay, print) for delay in (30, 10, 20, 40)]
    handles[1].cancel()
    dump = loop.dump(limit=3)
    assert dump.nr_timers == 4
    assert [round(each.seconds) for each in dump.timers] == [10, 20, 30]
    assert [each.cancelled for each in dump.timers] == [True, False, False]
    assert dump.timers[1].callback == "print"
    for handle in handles:
        handle.cancel()


def test_the_ready_queue_is_shown(loop: aiopoll.EventLoop) -> None:
    loop.call_soon(print)
    loop.call_soon(len, "")
    dump = loop.dump(limit=1)
    assert (dump.nr_ready, dump.ready) == (2, ("print",))
    loop.run_until_complete(asyncio.sleep(0))


def test_a_limit_keeps_those_that_run_first(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> Any:
        others = [asyncio.create_task(asyncio.sleep(1000), name=f"s-{i}") for i in range(12)]
        await asyncio.sleep(0)
        dump = loop.dump(limit=4)
        for each in others:
            each.cancel()
        return dump

    dump = loop.run_until_complete(scenario())
    assert dump.nr_tasks == 13
    assert dump.tasks[0].state is TaskState.RUNNING
    assert [each.name for each in dump.tasks][1:] == ["s-0", "s-1", "s-2"]


def test_a_dump_is_json_and_text(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> Any:
        task = asyncio.create_task(asyncio.sleep(1000), name="sleeper")
        await asyncio.sleep(0)
        dump = loop.dump()
        task.cancel()
        return dump

    dump = loop.run_until_complete(scenario())
    read = json.loads(json.dumps(dump.as_dict()))
    assert read["pid"] == os.getpid()
    assert read["statistics"]["backend"] == loop.backend
    assert {each["name"] for each in read["tasks"]} >= {"sleeper"}
    text = str(dump)
    assert "sleeper: waiting, sleep, awaits sleep, " in text
    assert f"process {os.getpid()}" in text
    with pytest.raises(dataclasses.FrozenInstanceError):
        dump.pid = 1


def test_a_bad_limit_is_refused(loop: aiopoll.EventLoop) -> None:
    with pytest.raises(ValueError, match="limit must be 0 or more, not -1"):
        loop.dump(limit=-1)
    assert loop.dump(limit=0).tasks == ()


def test_loops_that_do_not_run_are_dumped() -> None:
    loop = aiopoll.new_event_loop()
    assert loop.dump().state is LoopState.NOT_RUNNING
    loop.close()
    dump = loop.dump()
    assert dump.state is LoopState.CLOSED
    assert (dump.thread, dump.statistics, dump.nr_descriptors) == (None, {}, 0)
    assert "closed" in str(dump)


def test_no_code_of_the_program_runs(loop: aiopoll.EventLoop) -> None:
    ran = []

    class Nosy:
        def __repr__(self) -> str:
            ran.append("repr")
            return "Nosy"

        def __getattr__(self, name: str) -> Any:
            ran.append(name)
            raise AttributeError(name)

        def __call__(self) -> None:
            pass

        def __await__(self) -> Any:
            return (yield from asyncio.Event().wait().__await__())

    async def scenario() -> Any:
        timer = loop.call_later(1000, Nosy())
        ready = loop.call_soon(Nosy())
        queue: asyncio.Queue[Nosy] = asyncio.Queue(1)
        queue.put_nowait(Nosy())
        ran.clear()
        full = await dumped(lambda: queue.put(Nosy()))
        nosy = await dumped(Nosy)
        timer.cancel()
        ready.cancel()
        return full, nosy

    full, nosy = loop.run_until_complete(scenario())
    assert full.awaits.text.endswith("1 of 1")
    assert nosy.awaits.kind is AwaitKind.EVENT
    assert [line.function.rpartition(".")[2] for line in nosy.stack][-1] == "wait"
    assert ran == []


@pytest.mark.parametrize("stuck", [True, False], ids=["stuck", "asleep"])
def test_another_thread_dumps_a_loop(loop: aiopoll.EventLoop, stuck: bool) -> None:
    dumps: list[Any] = []
    release = threading.Event()

    def stick() -> None:
        assert release.wait(CHILD_SECONDS_MAX)

    async def scenario() -> None:
        done = asyncio.Event()

        def look() -> None:
            deadline = time.monotonic() + CHILD_SECONDS_MAX
            while time.monotonic() < deadline:
                dump: Any = loop.dump()
                dumps.append(dump)
                names = [line.function.rpartition(".")[2] for line in dump.thread.stack]
                if "stick" in names if stuck else dump.state is LoopState.ASLEEP:
                    break
                time.sleep(0.01)
            release.set()
            loop.call_soon_threadsafe(done.set)

        thread = threading.Thread(target=look)
        other = asyncio.create_task(asyncio.sleep(1000), name="other")
        await asyncio.sleep(0)
        thread.start()
        if stuck:
            stick()
        await done.wait()
        thread.join()
        other.cancel()

    loop.run_until_complete(scenario())
    dump = dumps[-1]
    assert dump.thread.ident == threading.get_ident()
    assert "other" in {each.name for each in dump.tasks}
    if not stuck:
        assert dump.state is LoopState.ASLEEP or (not HAS_GIL)
        assert not dump.missing
        return
    running = [each for each in dump.tasks if each.state is TaskState.RUNNING]
    assert "stick" in [line.function.rpartition(".")[2] for line in running[0].stack]
    assert dump.missing if (not HAS_GIL) else not dump.missing


def test_threads_dump_while_tasks_come_and_go(loop: aiopoll.EventLoop) -> None:
    counts: list[int] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            counts.append(len(str(loop.dump(limit=20))))

    async def scenario() -> None:
        thread = threading.Thread(target=look)
        thread.start()
        while len(counts) < 50:
            ours, theirs = socket.socketpair()
            reader, writer = await asyncio.open_connection(sock=ours)
            read = asyncio.create_task(reader.read())
            await asyncio.sleep(0)
            theirs.close()
            await read
            writer.close()
            loop.call_later(0, int)
        stop.set()
        thread.join()

    loop.run_until_complete(asyncio.wait_for(scenario(), CHILD_SECONDS_MAX))
    assert min(counts) > 100


@pytest.mark.subprocess
def test_nothing_of_it_is_loaded_unless_asked_for() -> None:
    program = f"""if True:
        import asyncio, sys, aiopoll
        aiopoll.run(asyncio.sleep(0))
        of_a_dump = ("records", "dump", "awaiting", "look", "dump_text", "dump_signal",
                     "dump_request", "service", "sockets")
        print([name for name in of_a_dump if {"aiopoll.loop.monitor."!r} + name in sys.modules])
    """
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=CHILD_SECONDS_MAX,
    )
    assert result.stdout == "[]\n"


def test_the_loops_own_pipe_is_named(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> Any:
        return loop.dump()

    dump = loop.run_until_complete(scenario())
    assert "signals and other threads" in [each.reader for each in dump.descriptors]
