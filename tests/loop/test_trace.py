"""loop.start_trace(): what is recorded of a loop, by what names, in what order."""

import asyncio
import functools
import gc
import itertools
import socket
import struct
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.trace_events import NS, named, outer_of, read

import aiopoll
from aiopoll.loop.monitor.tracer import Tracer
from aiopoll.reactor.trace_buffer import KINDS, RECORD, TraceBuffer
from aiopoll.reactor.trace_kinds import Kind


@pytest.fixture(params=["aio", "epoll", "auto"])
def loop(request: Any) -> Iterator[aiopoll.EventLoop]:
    loop = aiopoll.new_event_loop(backend=request.param)
    yield loop
    loop.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.json"


def traced(loop: aiopoll.EventLoop, path: Path, coroutine: Any) -> dict[str, Any]:
    loop.start_trace(path)
    loop.run_until_complete(coroutine)
    assert loop.stop_trace() == path
    return read(path)


def categories(document: dict[str, Any]) -> set[str]:
    return {event["cat"] for event in document["traceEvents"] if "cat" in event}


async def use_everything(loop: aiopoll.EventLoop, folder: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(1000))
        await reader.read()
        writer.close()

    async def ask(address: Any) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"x" * 1000)
        await reader.readexactly(1000)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    await asyncio.gather(*(asyncio.create_task(ask(address), name=f"client ü{i}") for i in "12"))
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        receiving = asyncio.ensure_future(loop.sock_recv(left, 10))
        await asyncio.sleep(0)
        right.send(b"x")
        assert await receiving == b"x"
    await asyncio.sleep(0.002)
    await loop.run_in_executor(None, time.sleep, 0.02)
    await aiopoll.write_bytes(folder / "file", b"0" * 10000)
    async with aiopoll.open(folder / "file", "r+b", buffering=0) as file:
        assert await file.read(4000) == b"0" * 4000
        await file.write(b"1" * 300)
        await file.datasync()
    gc.collect()
    server.close()
    await server.wait_closed()


def test_each_kind_of_record_is_there(loop: aiopoll.EventLoop, path: Path, tmp_path: Path) -> None:
    document = traced(loop, path, use_everything(loop, tmp_path))
    assert categories(document) >= {
        *("callback", "task", "poll", "syscall", "sleep", "timer", "wake-up", "file", "gc")
    }
    assert document["otherData"]["records_lost"] == document["otherData"]["names_lost"] == 0
    names = {event["name"] for event in document["traceEvents"]}
    assert "epoll_ctl" in names
    assert names & {"epoll_wait", "epoll_pwait2", "io_getevents", "io_pgetevents"}
    if loop.backend == "aio":
        assert names >= {"io_submit"}
        assert any(name.startswith("armed fd ") for name in names)
    assert any(name.startswith("ready fd ") for name in names)
    tasks = {e["args"]["task"] for e in document["traceEvents"] if e.get("cat") == "task"}
    assert tasks >= {"client ü1", "client ü2"}
    (thread,) = {e["tid"] for e in document["traceEvents"] if e.get("cat") == "poll"}
    assert thread == threading.get_native_id()


def test_requests_of_files_have_their_place_and_route(
    loop: aiopoll.EventLoop, path: Path, tmp_path: Path
) -> None:
    document = traced(loop, path, use_everything(loop, tmp_path))
    file = str(tmp_path / "file")
    (reading,) = named(document, f"read {file}", "b")
    assert (reading["args"]["offset"], reading["args"]["size"]) == (0, 4000)
    assert reading["args"]["route"] in ("inline", "thread")
    assert reading["args"]["fd"] > 0
    (writing,) = named(document, f"write {file}", "b")
    assert (writing["args"]["offset"], writing["args"]["size"]) == (4000, 300)
    assert writing["args"]["route"] == "thread"
    (syncing,) = named(document, f"sync {file}", "b")
    assert syncing["args"]["route"] in ("ring", "thread")
    assert reading["ts"] < writing["ts"] < syncing["ts"]


def test_a_step_has_task_and_coroutine(loop: aiopoll.EventLoop, path: Path) -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.create_task(work(), name="a name " * 20)
        await asyncio.create_task(work(), name="Task-007")
        task = asyncio.create_task(work())
        task_names.append(task.get_name())
        await task

    task_names: list[str] = []
    document = traced(loop, path, main())
    name = f"{test_a_step_has_task_and_coroutine.__name__}.<locals>.work"
    steps = [(event["args"]["task"], event["cat"]) for event in named(document, name)]
    titles = ["a name " * 20, "Task-007", *task_names]
    assert steps == [(title, "task") for title in titles for _ in range(2)]
    assert named(document, name)[0]["args"]["source"].startswith(f"{__file__}:")


def test_callbacks_are_named_and_in_order(loop: aiopoll.EventLoop, path: Path) -> None:
    class Thing:
        def method(self) -> None: ...

        def __call__(self) -> None: ...

    def plain(*args: object) -> None: ...

    def stop() -> None:
        loop.stop()

    loop.call_soon(plain)
    loop.call_soon(functools.partial(functools.partial(plain, 1), 2))
    loop.call_soon(Thing().method)
    loop.call_soon(Thing())
    loop.call_soon([].append, 1)
    loop.call_soon(plain).cancel()
    loop.call_soon(stop)
    loop.start_trace(path)
    loop.run_forever()
    loop.stop_trace()
    document = read(path)
    callbacks = [event for event in document["traceEvents"] if event.get("cat") == "callback"]
    callbacks.sort(key=lambda event: event["ts"])
    names = [event["name"].rpartition("<locals>.")[2] for event in callbacks]
    assert names == ["plain", "plain", "Thing.method", "Thing", "list.append", "stop"]
    for before, after in itertools.pairwise(callbacks):
        assert before["ts"] + before["dur"] <= after["ts"] + NS


def test_slices_are_within_the_right_ones(loop: aiopoll.EventLoop, path: Path) -> None:
    def collect() -> None:
        gc.collect()

    async def main() -> None:
        loop.call_soon(collect)
        await asyncio.sleep(0.3)

    document = traced(loop, path, main())
    collections = named(document, "garbage collection")
    full = [event for event in collections if event["args"]["generation"] == 2]
    outer = outer_of(document, full[0])
    assert outer is not None
    assert outer["name"].endswith("collect")
    sleeps = [event for event in document["traceEvents"] if event.get("cat") == "sleep"]
    assert max(event["dur"] for event in sleeps) > 10_000
    for sleep in sleeps:
        assert (outer_of(document, sleep) or {})["name"] == "poll"
    (timer,) = named(document, "timer due")
    assert (outer_of(document, timer) or {})["name"] == "poll"
    assert timer["args"]["late_us"] >= 0


def test_a_thread_that_wakes_the_loop_has_a_track(loop: aiopoll.EventLoop, path: Path) -> None:
    def wake() -> None:
        while not done.is_set():
            time.sleep(0.02)  # the loop is likely to sleep by then
            loop.call_soon_threadsafe(woken.append, loop.statistics().wakes)

    done = threading.Event()
    woken: list[int] = []
    thread = threading.Thread(target=wake, name="the waker")

    async def main() -> None:
        before = loop.statistics().wakes
        thread.start()
        while loop.statistics().wakes == before:
            await asyncio.sleep(0.5)
        done.set()
        thread.join()

    document = traced(loop, path, main())
    wakes = named(document, "wakes the loop")
    assert thread.native_id in {event["tid"] for event in wakes}
    assert threading.get_native_id() not in {event["tid"] for event in wakes}


# Bounds and lives


def test_the_newest_records_are_kept(loop: aiopoll.EventLoop, path: Path) -> None:
    def number(i: int) -> None:
        loop._trace_instant(f"mark {i}")

    loop.start_trace(path, size=1000)
    for i in range(3000):
        loop.call_soon(number, i)
    loop.run_until_complete(asyncio.sleep(0))
    loop.stop_trace()
    document = read(path)
    other = document["otherData"]
    assert other["records"] == 1024
    assert other["records"] + other["records_lost"] >= 6000
    marks = [e["name"] for e in document["traceEvents"] if e.get("cat") == "mark"]
    assert marks == [f"mark {i}" for i in range(3000 - len(marks), 3000)]
    assert 400 < len(marks) <= 512


def test_texts_whose_beginning_is_lost_do_no_harm(tmp_path: Path) -> None:
    for extra in range(40):
        tracer = Tracer(1)
        for i in range(20 + extra):
            tracer.instant("mark", {"text": "ä" * i})
        tracer.instant("last")
        records, lost = tracer.buffer.copy()
        assert len(records) == 32 * struct.calcsize(RECORD)
        assert lost == tracer.buffer.recorded - 32


def test_names_are_bounded() -> None:
    tracer = Tracer(64)
    for i in range(65540):
        tracer.instant(f"name {i}")
    assert len(tracer.names) == 65536
    assert tracer.names_lost == 5


def test_a_trace_keeps_no_object_alive(loop: aiopoll.EventLoop, path: Path) -> None:
    class Thing:
        def method(self, argument: object) -> None: ...

    async def work(thing: Thing) -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        thing, argument = Thing(), Thing()
        function: Any = lambda: None  # noqa: E731
        task = asyncio.create_task(work(thing), name="work")
        refs.extend(map(weakref.ref, (thing, argument, function, task)))
        loop.call_soon(thing.method, argument)
        loop.call_soon(function)
        with aiopoll.trace_span("span", thing=thing):
            await task
        loop._trace_instant("mark", {"thing": argument})

    refs: list[weakref.ref[Any]] = []
    loop.start_trace(path)
    loop.run_until_complete(main())
    gc.collect()
    assert [ref() for ref in refs] == [None] * 4
    loop.stop_trace()
    read(path)


def test_a_loop_that_is_traced_can_be_collected(tmp_path: Path) -> None:
    loop = aiopoll.new_event_loop()
    loop.start_trace()
    loop.run_until_complete(asyncio.sleep(0))
    tracer = weakref.ref(loop._trace)
    loop.close()
    ref = weakref.ref(loop)
    del loop
    gc.collect()
    assert ref() is None
    assert tracer() is None


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_dropped_loop_takes_its_trace_along() -> None:
    loop = aiopoll.new_event_loop()
    loop.start_trace()
    loop.run_until_complete(asyncio.sleep(0))
    trace = weakref.ref(loop._trace)
    del loop
    gc.collect()
    assert trace() is None


# Calls


def test_a_running_callback_is_in_the_file(loop: aiopoll.EventLoop, path: Path) -> None:
    async def main() -> None:
        loop.write_trace(path)

    loop.start_trace()
    loop.run_until_complete(main())
    assert loop.stop_trace() is None
    (step,) = [e for e in read(path)["traceEvents"] if e["name"].endswith(".main")]
    assert step["args"]["unfinished"] is True
    assert step["args"]["task"].startswith("Task-")
    assert step["dur"] > 0


def test_only_the_last_seconds_are_written(loop: aiopoll.EventLoop, path: Path) -> None:
    loop.start_trace()
    loop._trace_instant("early")
    time.sleep(0.05)
    since = time.monotonic()
    loop._trace_instant("late")
    loop.write_trace(path, last=time.monotonic() - since + 0.01)
    names = {event["name"] for event in read(path)["traceEvents"]}
    assert "late" in names
    assert "early" not in names


def test_exceptions_end_slices(loop: aiopoll.EventLoop, path: Path) -> None:
    def fail() -> None:
        raise ValueError

    loop.set_exception_handler(lambda loop, context: None)
    loop.start_trace(path)
    loop.call_soon(fail)
    loop.call_soon(exec, "raise SystemExit")
    with pytest.raises(SystemExit):
        loop.run_forever()
    loop.run_until_complete(asyncio.sleep(0))
    loop.stop_trace()
    document = read(path)
    assert len(named(document, "exec")) == 1
    assert not [e for e in document["traceEvents"] if e.get("args", {}).get("unfinished")]


def test_tracing_starts_and_stops_in_a_callback(loop: aiopoll.EventLoop, path: Path) -> None:
    async def main() -> None:
        loop.start_trace(path)
        with pytest.raises(RuntimeError, match="traced already"):
            loop.start_trace()
        await asyncio.sleep(0)
        loop.stop_trace()
        assert loop.stop_trace() is None
        with pytest.raises(RuntimeError, match="not traced"):
            loop.write_trace(path)
        await asyncio.sleep(0)
        loop.start_metrics()
        loop.start_trace(path)
        await asyncio.sleep(0)
        loop.stop_trace()
        await asyncio.sleep(0)
        timings = loop.metrics().timings
        assert timings is not None
        assert timings.callback.count == 1  # the step between the two

    loop.run_until_complete(main())
    assert [e["args"]["task"] for e in read(path)["traceEvents"] if e["name"].endswith("main")]


def test_debug_mode_is_traced_too(loop: aiopoll.EventLoop, path: Path) -> None:
    async def main() -> None:
        await asyncio.sleep(0)

    loop.set_debug(True)
    document = traced(loop, path, main())
    assert len([e for e in document["traceEvents"] if e["name"].endswith(".main")]) == 2


def test_marks_and_spans_have_arguments(loop: aiopoll.EventLoop, path: Path) -> None:
    async def main() -> None:
        loop._trace_instant("stall", {"seconds": 1.5, "stack": ["a", "b"]})
        loop._trace_instant("long", {"text": "x" * 1000})
        with aiopoll.trace_span("parse", size=3), aiopoll.trace_span("inner"):
            await asyncio.sleep(0.001)
        with pytest.raises(KeyError), aiopoll.trace_span("fails"):
            raise KeyError

    document = traced(loop, path, main())
    (stall,) = named(document, "stall")
    assert stall["args"] == {"seconds": 1.5, "stack": ["a", "b"]}
    (long,) = named(document, "long")
    assert long["args"]["value"].startswith('{"text": "xxx')
    (begin,) = named(document, "parse", "b")
    (end,) = named(document, "parse", "e")
    assert begin["args"] == {"size": 3}
    assert end["ts"] - begin["ts"] >= 900
    assert named(document, "inner", "b")
    assert named(document, "fails", "b")
    with aiopoll.trace_span("outside of a loop"):
        pass


def test_odd_names_do_no_harm(loop: aiopoll.EventLoop, path: Path) -> None:
    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise OSError(name)

        def __call__(self) -> None: ...

    async def work() -> None: ...

    async def main() -> None:
        loop.call_soon(Odd())
        await asyncio.create_task(work(), name='</script>"\n\ud800')
        await asyncio.sleep(0)

    document = traced(loop, path, main())
    tasks = {e["args"]["task"] for e in document["traceEvents"] if e.get("cat") == "task"}
    assert '</script>"\n?' in tasks


def test_an_interrupted_look_opens_no_slice(loop: aiopoll.EventLoop) -> None:
    class Interrupted:
        def __getattribute__(self, name: str) -> Any:
            raise KeyboardInterrupt

        def __call__(self) -> None: ...

    loop.start_trace()
    for _ in range(20):
        loop.call_soon(Interrupted())
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
    opened: list[Any] = []
    loop.call_soon(lambda: opened.extend(loop._tracer.open()))  # type: ignore[union-attr]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert [kind for kind, *_ in opened] == [Kind.CALLBACK]


# Errors


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with aiopoll_loop() as loop:
        with pytest.raises(FileNotFoundError, match="missing"):
            loop.start_trace(tmp_path / "missing" / "out.json")
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError):
            loop.start_trace(tmp_path / "file" / "out.json")
        loop.start_trace()
        with pytest.raises(ValueError, match="has no path"):
            loop.write_trace()
        with pytest.raises(OSError, match="cannot write the trace: No such file"):
            loop.write_trace(tmp_path / "missing" / "out.json")
        with pytest.raises(OSError, match="cannot write the trace: Is a directory"):
            loop.write_trace(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert not list(tmp_path.parent.glob(".*.tmp"))


def test_a_full_disk_leaves_no_half_file(path: Path) -> None:
    with aiopoll_loop() as loop:
        loop.start_trace()
        loop.run_until_complete(asyncio.sleep(0))
        full = Path("/dev/full")
        import aiopoll.loop.monitor.trace_file as trace_file

        real = open

        def full_open(name: Any, *args: Any, **options: Any) -> Any:
            Path(name).touch()
            return real(full, *args, **options)

        trace_file.open = full_open  # type: ignore[attr-defined]
        try:
            with pytest.raises(OSError, match="No space left") as caught:
                loop.write_trace(path)
        finally:
            del trace_file.open  # type: ignore[attr-defined]
        assert caught.value.filename == str(path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), (True, TypeError),
                                             (1.5, TypeError), (1 << 40, ValueError)])  # fmt: skip
def test_a_wrong_size_is_refused(size: Any, error: type[Exception]) -> None:
    with aiopoll_loop() as loop:
        with pytest.raises(error, match="size must be"):
            loop.start_trace(size=size)
        assert loop._trace is None
    with pytest.raises(error, match="size must be"):
        TraceBuffer(size)


def test_a_closed_loop_is_not_traced(path: Path) -> None:
    loop = aiopoll.EventLoop(trace=path)
    loop.close()
    assert read(path)["otherData"]["pid"] > 0
    with pytest.raises(RuntimeError, match="closed"):
        loop.start_trace()
    with pytest.raises(RuntimeError, match="not traced"):
        loop.write_trace(path)
    assert loop.stop_trace() is None
    loop._trace_instant("too late")


def test_another_thread_cannot_start_or_stop_it(path: Path) -> None:
    errors: list[BaseException] = []

    def interfere(loop: aiopoll.EventLoop) -> None:
        for call in (loop.start_trace, loop.stop_trace):
            with pytest.raises(RuntimeError, match="another thread runs this loop") as caught:
                call()
            errors.append(caught.value)

    with aiopoll_loop() as loop:
        loop.start_trace()
        loop.run_until_complete(asyncio.to_thread(interfere, loop))
        loop.run_until_complete(loop.shutdown_default_executor())
    assert len(errors) == 2


def test_kinds_are_numbered_as_in_c() -> None:
    assert {kind.name: kind.value for kind in Kind} == KINDS


class aiopoll_loop:
    """A loop that is closed at the end."""

    def __enter__(self) -> aiopoll.EventLoop:
        self.loop = aiopoll.new_event_loop()
        return self.loop

    def __exit__(self, *error: object) -> None:
        self.loop.close()
