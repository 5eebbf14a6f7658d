"""Debug mode: what asyncio reports there is reported here, with the program's line in it."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.loops import CHILD_SECONDS_MAX

PROGRAM = """
import asyncio, gc, logging, os, socket, sys, threading, time, warnings
import aiopoll

warnings.simplefilter("always")
logging.basicConfig(level=logging.WARNING)

def pause():
    time.sleep(0.12)

class Slow(asyncio.Protocol):
    def data_received(self, data):
        pause()

class Heard(asyncio.DatagramProtocol):
    def datagram_received(self, data, address):
        pause()

async def coroutine():
    pass

async def bad():
    1 / 0

async def slow_callback(loop):
    loop.call_soon(pause)
    await asyncio.sleep(0.01)

async def slow_step(loop):
    async def step():
        pause()
        await asyncio.sleep(0)  # stands here
    await asyncio.create_task(step(), name="the slow one")

async def slow_reader(loop):
    ours, theirs = socket.socketpair()
    def slow_read():
        loop.remove_reader(ours)
        pause()
    loop.add_reader(ours, slow_read)
    theirs.send(b"x")
    await asyncio.sleep(0.2)
    ours.close()
    theirs.close()

async def slow_connection(loop):
    ours, theirs = socket.socketpair()
    transport, _ = await loop.create_connection(Slow, sock=ours)
    theirs.send(b"x")
    await asyncio.sleep(0.2)
    transport.close()
    theirs.close()

async def slow_datagram(loop):
    transport, _ = await loop.create_datagram_endpoint(Heard, local_addr=("127.0.0.1", 0))
    transport.sendto(b"x", transport.get_extra_info("sockname"))
    await asyncio.sleep(0.2)
    transport.close()

async def other_threads(loop):
    def call():
        for function in (loop.call_soon, lambda f: loop.call_later(1, f),
                         lambda f: loop.call_at(1, f)):
            try:
                function(print)
            except RuntimeError as error:
                print(error)
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()

async def wrong_callbacks(loop):
    for function in (loop.call_soon, lambda f: loop.call_later(1, f), loop.call_soon_threadsafe,
                     lambda f: loop.run_in_executor(None, f)):
        for callback in (coroutine, 3):
            try:
                function(callback)
            except TypeError as error:
                print(error)

async def never_awaited(loop):
    coroutine()  # dropped here

async def stream_never_awaited(loop):
    asyncio.StreamReader(loop=loop).read()  # dropped here

async def sock_never_awaited(loop):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    loop.sock_recv(ours, 1)  # dropped here
    ours.close()
    theirs.close()

async def task_never_retrieved(loop):
    task = asyncio.create_task(bad(), name="the bad one")  # made here
    await asyncio.sleep(0.01)
    del task
    gc.collect()

async def future_never_retrieved(loop):
    future = loop.create_future()  # made here
    future.set_exception(ValueError("lost"))
    del future
    gc.collect()

async def failing_callback(loop):
    loop.call_soon(lambda: 1 / 0)  # made here
    await asyncio.sleep(0.01)

async def handles(loop):
    print([repr(handle) for handle in (loop.call_soon(pause), loop.call_later(9, pause))])
    print(repr(asyncio.create_task(coroutine())))

make = {"ours": aiopoll.new_event_loop, "theirs": asyncio.new_event_loop}[sys.argv[1]]
with asyncio.Runner(debug=True, loop_factory=make) as runner:
    runner.run(globals()[sys.argv[2]](runner.get_loop()))
"""


def line_of(text: str, after: str = "") -> int:
    """The line of the program that has the text, after the one that has another."""
    lines = PROGRAM.splitlines()
    start = next(at for at, line in enumerate(lines) if after in line)
    return 1 + next(at for at, line in enumerate(lines) if at >= start and text in line)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("debug") / "program.py"
    path.write_text(PROGRAM)
    return path


def output_of(program: Path, whose: str, case: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "dev", str(program), whose, case],
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS_MAX,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.subprocess
@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize(
    ("case", "words", "line"),
    [
        ("slow_callback", "Executing <Handle pause()", line_of("def pause")),
        ("slow_step", "Executing <Task pending name='the slow one'", line_of("# stands here")),
        ("slow_reader", "slow_read() at", line_of("def slow_read()")),
        ("never_awaited", "'coroutine' was never", line_of("# dropped", "def never_awaited")),
        (
            "stream_never_awaited",
            "'StreamReader.read' was never",
            line_of("# dropped", "def stream"),
        ),
        ("sock_never_awaited", "sock_recv' was never", line_of("# dropped", "def sock_never")),
        ("task_never_retrieved", "exception was never retrieved", line_of("# made", "def task_")),
        (
            "future_never_retrieved",
            "exception was never retrieved",
            line_of("# made", "def future"),
        ),
        (
            "failing_callback",
            "Exception in callback failing_callback",
            line_of("# made", "def fail"),
        ),
        ("handles", "<TimerHandle when=", line_of("repr(handle)")),
    ],
)
def test_reports_have_the_programs_line(
    program: Path, whose: str, case: str, words: str, line: int
) -> None:
    output = output_of(program, whose, case)
    assert words in output
    assert f"{program}:{line}" in output or f'"{program}", line {line}' in output


@pytest.mark.subprocess
@pytest.mark.parametrize("case", ["other_threads", "wrong_callbacks"])
def test_wrong_calls_raise_what_asyncios_do(program: Path, case: str) -> None:
    ours = output_of(program, "ours", case)
    assert ours == output_of(program, "theirs", case)
    assert len(ours.splitlines()) >= 3


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("case", "method"),
    [("slow_connection", "Slow.data_received"), ("slow_datagram", "Heard.datagram_received")],
)
def test_a_slow_protocol_is_named_with_its_line(program: Path, case: str, method: str) -> None:
    """asyncio names its transport's own method."""
    output = output_of(program, "ours", case)
    line = line_of(f"def {method.partition('.')[2]}")
    assert f" read for {method}() at {program}:{line}> took 0." in output
    assert " took 0." in output_of(program, "theirs", case)


UNCLOSED = """
import asyncio, gc, linecache, os, socket, sys, tracemalloc  # what a warning imports
import aiopoll

kept = []

async def connection(loop):
    ours, theirs = socket.socketpair()
    return theirs, await loop.create_connection(asyncio.Protocol, sock=ours)  # made: connection

async def datagrams(loop):
    address = ("127.0.0.1", 0)
    return await loop.create_datagram_endpoint(asyncio.DatagramProtocol, address)  # made: datagrams

async def pipes(loop):
    ends = [os.fdopen(end, mode, 0) for end, mode in zip(os.pipe(), ("rb", "wb"))]
    read = await loop.connect_read_pipe(asyncio.Protocol, ends[0])  # made: pipes
    return read, ends

async def write_pipe(loop):
    ends = [os.fdopen(end, mode, 0) for end, mode in zip(os.pipe(), ("rb", "wb"))]
    written = await loop.connect_write_pipe(asyncio.BaseProtocol, ends[1])  # made: write_pipe
    return written, ends

async def binary_file(loop):
    return await aiopoll.open("/etc/passwd", "rb")  # made: binary_file

async def text_file(loop):
    return await aiopoll.open("/etc/passwd")  # made: text_file

async def temporary_file(loop):
    return await aiopoll.TemporaryFile()  # made: temporary_file

async def context(loop):
    return aiopoll.Context(4)  # made: context

async def selector(loop):
    return aiopoll.AioSelector()  # made: selector

async def event_loop(loop):
    return aiopoll.new_event_loop()  # made: event_loop

async def process(loop):
    return await loop.subprocess_exec(asyncio.SubprocessProtocol, "true")  # made: process

for _ in range(2):  # the second time from lists of spare objects
    with asyncio.Runner(debug=True, loop_factory=aiopoll.new_event_loop) as runner:
        kept.append(runner.run(globals()[sys.argv[1]](runner.get_loop())))
    print("COLLECTED", file=sys.stderr)
    kept.clear()
    gc.collect()
"""


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("connection", "unclosed transport <SocketTransport"),
        ("datagrams", "unclosed transport <DatagramTransport"),
        ("pipes", "unclosed transport <ReadPipeTransport"),
        ("write_pipe", "unclosed transport <WritePipeTransport"),
        ("binary_file", "unclosed file <aiopoll.BinaryFile"),
        ("text_file", "unclosed file <aiopoll."),
        ("temporary_file", "unclosed file <aiopoll.BinaryFile"),
        ("context", "unclosed <Context"),
        ("selector", "unclosed <Context"),
        ("event_loop", "unclosed event loop <EventLoop"),
        ("process", "unclosed transport <SubprocessTransport"),
    ],
)
def test_unclosed_objects_say_where_they_were_made(tmp_path: Path, kind: str, words: str) -> None:
    """With tracemalloc, which must know objects that come from lists of spares anew."""
    path = tmp_path / "unclosed.py"
    path.write_text(UNCLOSED)
    line = 1 + next(
        at for at, text in enumerate(UNCLOSED.splitlines()) if text.endswith(f"# made: {kind}")
    )
    done = subprocess.run(
        [sys.executable, "-X", "tracemalloc=30", "-W", "always", str(path), kind],
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS_MAX,
    )
    assert done.returncode == 0, done.stderr
    for output in done.stderr.split("COLLECTED")[1:]:
        [report] = [each for each in output.split("Warning: ") if each.startswith(words)]
        # Before 3.12 Python does not find the trace of objects that have a __dict__.
        if sys.version_info >= (3, 12) or kind in ("context", "selector"):
            assert f'File "{path}", lineno {line}\n' in report
