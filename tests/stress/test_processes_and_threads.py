"""Forks, children, threads and subinterpreters: each has a loop of its own, or an exception."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import aiopoll

CHILD_S = 60

FORK_PROGRAM = """
import asyncio, gc, multiprocessing, os, socket, sys, aiopoll

options = eval(sys.argv[1])

async def serve(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()

async def talk(address, identity, rounds):
    reader, writer = await asyncio.open_connection(*address)
    try:
        for number in range(rounds):
            message = (identity * 10**6 + number).to_bytes(8, "big") * 10
            writer.write(message)
            assert await reader.readexactly(80) == message
    finally:
        writer.close()
    await writer.wait_closed()

async def traffic(identity, rounds):
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    await asyncio.gather(*(talk(server.sockets[0].getsockname(), identity + n, rounds)
                           for n in range(5)))
    server.close()
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)

def in_child(number):
    aiopoll.run(traffic(1000 * number, 20), **options)

def raw_child(loop, kept):
    # What a child may do to its copies: none of it may reach the parent's ring or epoll set.
    for sock in kept:
        loop.remove_reader(sock)
    try:
        loop._run_once()
    except RuntimeError as error:
        assert "parent process" in str(error), error
    else:
        raise AssertionError("a turn in the child")
    asyncio._set_running_loop(None)
    loop.stop()
    loop._thread_id = None
    loop.close()
    del loop
    gc.collect()
    in_child(9)

async def parent():
    loop = asyncio.get_running_loop()
    heard = []
    pairs = [socket.socketpair() for _ in range(50)]
    for number, (ours, theirs) in enumerate(pairs):
        ours.setblocking(False)
        loop.add_reader(ours, lambda n=number, s=ours: heard.append((n, s.recv(100))))
    busy = [asyncio.ensure_future(talk_for_ever()) for _ in range(2)]
    await asyncio.sleep(0.005)
    for round_ in range(4):
        for number, (_, theirs) in enumerate(pairs):
            if number % 2:
                theirs.send(b"%d" % number)  # in the ring when the fork comes, or not yet
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                raw_child(loop, [ours for ours, _ in pairs])
                status = 0
            finally:
                os._exit(status)
        while not (done := os.waitpid(pid, os.WNOHANG))[0]:
            await asyncio.sleep(0.001)
        assert os.waitstatus_to_exitcode(done[1]) == 0
        for number, (_, theirs) in enumerate(pairs):
            if not number % 2:
                theirs.send(b"%d" % number)
        while len(heard) < len(pairs) * (round_ + 1):
            await asyncio.sleep(0.001)
    assert sorted(heard) == sorted((n, b"%d" % n) for n in range(len(pairs)) for _ in range(4))
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        children = [context.Process(target=in_child, args=(n,)) for n in (1, 2)]
        for child in children:
            child.start()
        while any(child.is_alive() for child in children):
            await asyncio.sleep(0.001)
        assert [child.exitcode for child in children] == [0, 0], method
    for task in busy:
        assert not task.done(), task
        task.cancel()
    await asyncio.gather(*busy, return_exceptions=True)
    for ours, theirs in pairs:
        assert loop.remove_reader(ours)
        ours.close()
        theirs.close()
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)

async def talk_for_ever():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        while True:
            await talk(server.sockets[0].getsockname(), 7, 50)
    finally:
        server.close()

if __name__ == "__main__":
    aiopoll.run(parent(), **options)
    print("sound")
"""


@pytest.mark.slow
@pytest.mark.subprocess
def test_children_take_nothing_from_a_loop_that_runs(
    loop_options: dict[str, Any], tmp_path: Path
) -> None:
    program = tmp_path / "parent.py"  # a file, for multiprocessing spawns it anew
    program.write_text(FORK_PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program), repr(loop_options)],
        capture_output=True,
        text=True,
        timeout=CHILD_S,
    )
    assert done.stdout == "sound\n", done.stderr


def test_a_loop_in_each_of_many_threads(loop_options: dict[str, Any]) -> None:
    count, rounds = 6, 100
    heard: dict[int, list[bytes]] = {}
    failures: list[BaseException] = []
    together = threading.Barrier(count)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def main(number: int) -> None:
        together.wait(CHILD_S)  # all the rings are there at once
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for round_ in range(rounds):
            writer.write(b"%d.%d\n" % (number, round_))
            heard.setdefault(number, []).append(await reader.readline())
        writer.close()
        server.close()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)

    def run(number: int) -> None:
        try:
            aiopoll.run(main(number), **loop_options)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(CHILD_S)
    assert not failures
    assert heard == {n: [b"%d.%d\n" % (n, r) for r in range(rounds)] for n in range(count)}


def test_another_thread_is_refused(loop: aiopoll.EventLoop) -> None:
    refused: dict[str, BaseException | None] = {}

    def misuse() -> None:
        calls = {
            "call_soon": lambda: loop.call_soon(list),
            "call_later": lambda: loop.call_later(1, list),
            "call_at": lambda: loop.call_at(1, list),
            "run_forever": loop.run_forever,
            "_run_once": loop._run_once,
            "close": loop.close,
        }
        for name, call in calls.items():
            try:
                call()
            except RuntimeError as error:
                refused[name] = error
            else:
                refused[name] = None
        loop.call_soon_threadsafe(loop.stop)

    loop.set_debug(True)
    thread = threading.Thread(target=misuse, daemon=True)
    # Once the loop sleeps: it has nothing to do but to be stopped.
    threading.Timer(0.05, thread.start).start()
    loop.run_forever()
    thread.join(CHILD_S)
    loop.set_debug(False)
    assert [name for name, error in refused.items() if error is None] == []
    assert len(refused) == 6


SUBINTERPRETER_PROGRAM = """
import sys
if sys.argv[1] == "after":
    from aiopoll import Context  # a compiled module: the package loads none itself
CODE = '''
try:
    import aiopoll
    aiopoll.run(__import__("asyncio").sleep(0))
except ImportError as error:
    text = str(error)
else:
    text = "works"
with open(PATH, "w") as file:
    file.write(text)
'''.replace("PATH", repr(sys.argv[2]))
try:
    import _interpreters as interpreters  # 3.13
except ImportError:
    import _xxsubinterpreters as interpreters
run = getattr(interpreters, "exec", None) or interpreters.run_string
interpreter = interpreters.create()
failure = run(interpreter, CODE)
assert failure is None, failure
interpreters.destroy(interpreter)
try:
    import aiopoll, asyncio
    aiopoll.run(asyncio.sleep(0))
except ImportError as error:
    # One interpreter a process has the compiled modules: the one that came first.
    assert sys.argv[1] == "before" and "interpreter" in str(error), error
print("alive")
"""


@pytest.mark.subprocess
@pytest.mark.parametrize("when", ["after", "before"])
def test_subinterpreter_works_or_raises_that_it_cannot(when: str, tmp_path: Path) -> None:
    """And so does the main interpreter, where it comes second."""
    path = tmp_path / "answer"
    done = subprocess.run(
        [sys.executable, "-c", SUBINTERPRETER_PROGRAM, when, str(path)],
        capture_output=True,
        text=True,
        timeout=CHILD_S,
    )
    assert path.exists(), done.stderr
    answer = path.read_text()
    assert answer == "works" or "interpreter" in answer, answer
    assert done.stdout == "alive\n", f"{answer}\n{done.stderr}"
