"""Wake-ups of a sleeping loop: threads, signals; and isolation after a fork."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

import aiopoll


def test_other_threads_wake_the_loop_each_time(loop: aiopoll.EventLoop) -> None:
    rounds = 2000
    turns: list[int] = []
    answered = threading.Semaphore(0)

    def from_thread() -> None:
        for number in range(rounds):
            loop.call_soon_threadsafe(answer, number)
            answered.acquire()
        loop.call_soon_threadsafe(loop.stop)

    def answer(number: int) -> None:
        turns.append(number)
        answered.release()

    thread = threading.Thread(target=from_thread)
    thread.start()
    loop.run_forever()
    thread.join()
    assert turns == list(range(rounds))


def test_many_threads_lose_no_callback(loop: aiopoll.EventLoop) -> None:
    count = 4 * 5000
    ran: list[int] = []

    def called(number: int) -> None:
        ran.append(number)
        if len(ran) == count:
            loop.stop()

    def from_thread() -> None:
        for number in range(count // 4):
            loop.call_soon_threadsafe(called, number)

    threads = [threading.Thread(target=from_thread) for _ in range(4)]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert len(ran) == count


def test_the_eventfd_is_written_only_for_a_sleeper(loop: aiopoll.EventLoop) -> None:
    ran: list[int] = []

    def from_the_loop_itself() -> None:
        for number in range(100):
            loop.call_soon_threadsafe(ran.append, number)
        loop.call_soon_threadsafe(loop.stop)

    loop.call_soon(from_the_loop_itself)
    loop.run_forever()
    assert len(ran) == 100
    assert loop.statistics().wakes == 0


def test_ctrl_c_ends_a_loop_that_sleeps(loop: aiopoll.EventLoop) -> None:
    # From a thread, so that the signal may come at any moment around the system call.
    for _ in range(30):
        sender = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT))
        loop.call_soon(sender.start)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        sender.join()
    assert signal.set_wakeup_fd(-1) == -1


def test_signal_handlers_removed_restore_ctrl_c(
    loop: aiopoll.EventLoop,
) -> None:
    caught: list[int] = []

    def handler() -> None:
        caught.append(signal.SIGUSR1)
        assert loop.remove_signal_handler(signal.SIGUSR1)
        threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()

    loop.add_signal_handler(signal.SIGUSR1, handler)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert caught == [signal.SIGUSR1]
    assert signal.set_wakeup_fd(-1) == -1


FORK_PROGRAM = """
import asyncio, os, socket, sys, aiopoll

async def main():
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    heard = loop.create_future()
    loop.add_reader(ours, lambda: heard.done() or heard.set_result(ours.recv(1)))
    await asyncio.sleep(0)
    pid = os.fork()
    if pid == 0:
        # The child: what it does to its copy must not reach the parent's ring or epoll set.
        status = 1
        try:
            loop.remove_reader(ours)
            try:
                loop._run_once()
            except RuntimeError as error:
                assert "parent process" in str(error)
                asyncio._set_running_loop(None)
                asyncio.events._set_running_loop(None)
                aiopoll.run(asyncio.sleep(0), **OPTIONS)
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    theirs.send(b"x")
    assert await heard == b"x"
    loop.remove_reader(ours)
    print("heard")

OPTIONS = {"backend": sys.argv[1]}
aiopoll.run(main(), **OPTIONS)
"""


@pytest.mark.subprocess
@pytest.mark.parametrize("backend", ["aio", "epoll"])
def test_a_forked_child_leaves_the_parents_loop_alone(backend: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK_PROGRAM, backend],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "heard\n", done.stderr


def test_backend_can_be_forced_and_unknown_one_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIOPOLL_BACKEND", "epoll")
    loop = aiopoll.new_event_loop()
    assert loop.backend == "epoll"
    loop.close()
    loop = aiopoll.new_event_loop(backend="aio")
    assert loop.backend == "aio"
    loop.close()
    monkeypatch.setenv("AIOPOLL_BACKEND", "select")
    with pytest.raises(ValueError, match="AIOPOLL_BACKEND must be one of auto, aio, epoll"):
        aiopoll.new_event_loop()
    with pytest.raises(ValueError, match="nr_events must be from 1"):
        aiopoll.new_event_loop(backend="aio", nr_events=0)


def test_events_pending_is_a_look_at_the_ring() -> None:
    loop = aiopoll.new_event_loop(backend="aio")
    ours, theirs = socket.socketpair()
    seen: list[bool] = []

    def long_callback() -> None:
        seen.append(loop.events_pending())
        theirs.send(b"x")
        seen.append(loop.events_pending())
        loop.stop()

    with ours, theirs:
        loop.add_reader(ours, ours.recv, 1)
        loop.call_soon(loop.call_soon, long_callback)  # in the second iteration it is armed
        loop.run_forever()
        assert seen == [False, loop.statistics().user_ring]
        loop.remove_reader(ours)
        loop.close()


def test_run_and_runner_use_the_loop() -> None:
    async def main() -> type[asyncio.AbstractEventLoop]:
        return type(asyncio.get_running_loop())

    assert aiopoll.run(main()) is aiopoll.EventLoop
    with asyncio.Runner(loop_factory=aiopoll.new_event_loop) as runner:
        assert runner.run(main()) is aiopoll.EventLoop
