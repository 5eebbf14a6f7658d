"""Signals in forked children: none of them reaches the parent's loop."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.subprocess

PROGRAM = """
import asyncio, os, pathlib, selectors, signal, subprocess, sys, threading
import multiprocessing
import aiopoll

FORKS = 100

def use(loop):
    # What a child does with its copy of the loop, whose handlers it has inherited.
    for sig in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
        os.kill(os.getpid(), sig)
    loop.call_soon_threadsafe(print, "in the child")
    loop._write_to_self()
    loop.stop()
    loop.remove_signal_handler(signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)

def child(loop):
    status = 1
    try:
        use(loop)
        asyncio._set_running_loop(None)
        # A loop of its own has signals of its own.
        with asyncio.Runner(loop_factory=make) as runner:
            runner.run(hear())
        status = 0
    finally:
        os._exit(status)

async def hear():
    loop = asyncio.get_running_loop()
    heard = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, heard.set_result, None)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(heard, 30)

def ended(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

def fork(loop):
    pid = os.fork()
    if pid == 0:
        child(loop)
    ended(pid)

def fork_in_a_thread(loop):
    thread = threading.Thread(target=fork, args=(loop,))
    thread.start()
    thread.join()

def by_multiprocessing(loop):
    process = multiprocessing.get_context("fork").Process(target=child, args=(loop,))
    process.start()
    process.join()
    assert process.exitcode == 0

def before_exec(loop):
    # The handlers are Python's until exec.
    def preexec():
        os.kill(os.getpid(), signal.SIGUSR1)
        loop._write_to_self()
    subprocess.run(["true"], preexec_fn=preexec, check=True)

def at_once(loop):
    # The signal comes while the child is made.
    for _ in range(FORKS):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(writer)
                os.read(reader, 1)
            finally:
                os._exit(0)
        os.kill(pid, signal.SIGUSR1)
        os.close(writer)
        os.close(reader)
        ended(pid)

def close_in_the_child(loop):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            use(loop)
            asyncio._set_running_loop(None)
            loop._thread_id = None
            loop.close()
            status = 0
        finally:
            os._exit(status)
    ended(pid)

def eventfds():
    counts = []
    for entry in pathlib.Path("/proc/self/fdinfo").iterdir():
        try:
            text = entry.read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("eventfd-count"):
                counts.append(line.split()[1])
    return counts

async def main():
    loop = asyncio.get_running_loop()
    caught = []
    for sig in (signal.SIGUSR1, signal.SIGUSR2):
        loop.add_signal_handler(sig, caught.append, sig)
    await asyncio.sleep(0)
    WAY(loop)
    # No turn of the loop's was in between.
    assert set(eventfds()) <= {"0"}, eventfds()
    try:
        assert loop._ssock.recv(100) == b"", "signals were written"
        assert False, "the pipe was closed"
    except BlockingIOError:
        pass
    for _ in range(5):
        await asyncio.sleep(0)
    assert caught == []
    # And the loop hears what is for it.
    os.kill(os.getpid(), signal.SIGUSR1)
    while not caught:
        await asyncio.sleep(0)
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(caught.append, 0))
    thread.start()
    while len(caught) < 2:
        await asyncio.sleep(0)
    thread.join()
    print(caught == [signal.SIGUSR1, 0], loop.statistics().wakes <= 1)

def make():
    return aiopoll.new_event_loop(backend=sys.argv[1])

WAY = globals()[sys.argv[2]]
with asyncio.Runner(loop_factory=make) as runner:
    runner.run(main())
"""

FOREIGN = """
import asyncio, os, signal, socket, aiopoll

# A descriptor of other code stays, in parent and child.
ours, theirs = socket.socketpair()
for sock in ours, theirs:
    sock.setblocking(False)
signal.signal(signal.SIGUSR1, lambda *_: None)
loop = aiopoll.new_event_loop()
signal.set_wakeup_fd(ours.fileno())
pid = os.fork()
if pid == 0:
    os._exit(signal.set_wakeup_fd(-1) != ours.fileno())
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), signal.set_wakeup_fd(-1) == ours.fileno())
loop.close()
"""

MASK = """
import asyncio, os, signal, threading, aiopoll

# The mask of the thread that forks is what it was, in parent and child.
loop = aiopoll.new_event_loop()
signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR2})
pid = os.fork()
if pid == 0:
    os._exit(signal.pthread_sigmask(signal.SIG_BLOCK, ()) != {signal.SIGUSR2})
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGUSR2})
loop.close()
"""


def output(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout or done.stderr


@pytest.mark.parametrize(
    "way",
    [
        *("fork", "fork_in_a_thread", "by_multiprocessing"),
        *("before_exec", "at_once", "close_in_the_child"),
    ],
)
@pytest.mark.parametrize("backend", ["aio", "epoll"])
def test_signals_of_a_child_are_its_own(backend: str, way: str) -> None:
    assert output(PROGRAM, backend, way) == "True True\n"


def test_wakeup_descriptor_of_other_code_stays() -> None:
    asyncios_own = sys.version_info >= (3, 12)  # asyncio unsets all of them there
    assert output(FOREIGN) == ("1 True\n" if asyncios_own else "0 True\n")


def test_mask_of_signals_is_unchanged() -> None:
    assert output(MASK) == "0\nTrue\n"
