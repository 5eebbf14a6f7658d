"""Where backend auto waits: the rule by which looking at the ring is tried, and what it does."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.descriptors import stream_pair
from tests.support.loops import CHILD_SECONDS_MAX

import aiopoll

# Reads windows as "worth ns", and prints whether the next one looks.
PROGRAM = """
#include <stdio.h>
#include "trial.h"

int main(void)
{
	struct trial trial;
	double event_ns;
	int worth;

	trial_init(&trial);
	while (scanf("%d %lf", &worth, &event_ns) == 2) {
		trial.looking = trial_decide(&trial, worth, event_ns);
		putchar(trial.looking ? 'L' : '.');
	}
	return 0;
}
"""
SLEPT = (1, 20000)  # a window of short sleeps
CHEAPER, DEARER = (1, 15000), (1, 23000)
UNLIKE = (0, 20000)  # a window that is not for looking


@pytest.fixture(scope="module")
def decide(
    compiled: Callable[[str], Callable[[str], str]],
) -> Callable[[list[tuple[int, int]]], str]:
    run = compiled(PROGRAM)
    return lambda windows: run("".join(f"{worth} {event_ns}\n" for worth, event_ns in windows))


def test_no_trial_where_sleeps_are_long(decide: Callable[[list[tuple[int, int]]], str]) -> None:
    assert decide([UNLIKE] * 100) == "." * 100


def test_a_cheaper_window_goes_on_and_is_compared_again(
    decide: Callable[[list[tuple[int, int]]], str],
) -> None:
    answers = decide([SLEPT] + [CHEAPER] * 66 + [SLEPT] + [CHEAPER] * 130 + [SLEPT])
    assert answers == "L" * 66 + "." + "L" * 130 + "." + "L"


def test_each_dearer_window_doubles_the_time_to_the_next(
    decide: Callable[[list[tuple[int, int]]], str],
) -> None:
    answers = decide([SLEPT, DEARER, SLEPT, SLEPT, DEARER, SLEPT, SLEPT, SLEPT, DEARER])
    assert answers == "L" + "..L" + "...L" + "."


def test_looking_ends_where_it_finds_nothing(
    decide: Callable[[list[tuple[int, int]]], str],
) -> None:
    assert decide([SLEPT, CHEAPER, CHEAPER, UNLIKE, SLEPT]) == "LLL" + ".."


def test_the_pause_has_an_end(decide: Callable[[list[tuple[int, int]]], str]) -> None:
    answers = decide(([SLEPT] * 257 + [DEARER]) * 12)
    assert answers.rstrip(".").count("L") >= 12


def moves_of(pairs: int, messages: int) -> int:
    """How often a loop has changed the place where it waits, with so many pairs always ready."""
    loop = aiopoll.new_event_loop()
    ends = [stream_pair() for _ in range(pairs)]
    left = messages

    def pass_on(ours: socket.socket) -> None:
        nonlocal left
        left -= 1
        assert ours.recv(1) == b"x"
        if left == 0:
            loop.stop()
        # Ready again before the loop waits.
        peers[ours].send(b"x")

    peers = dict(ends)
    for ours, peer in ends:
        loop.add_reader(ours, pass_on, ours)
        peer.send(b"x")
    before = loop.statistics()
    loop.run_forever()
    moved = loop.statistics().moves - before.moves
    for ours, peer in ends:
        loop.remove_reader(ours)
        ours.close()
        peer.close()
    loop.close()
    return moved


@pytest.mark.parametrize("pairs", [1, 100])
def test_no_trial_where_nothing_sleeps(pairs: int) -> None:
    """Each wait is a short one, and no look at the ring could save a sleep."""
    assert moves_of(pairs, 256 * 20 * min(pairs, 64)) == 0


@pytest.mark.parametrize(("wait", "uses_set"), [("set", True), ("ring", False)])
def test_forced_places(wait: str, uses_set: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPOLL_WAIT", wait)
    loop = aiopoll.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    assert loop.statistics().uses_set == uses_set
    loop.close()


def test_an_unknown_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPOLL_WAIT", "pool")
    with pytest.raises(ValueError, match="AIOPOLL_WAIT must be ring, set or both, not 'pool'"):
        aiopoll.new_event_loop()


def test_files_move_with_the_loop_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that talks in both places, and ones that are parked meanwhile."""
    monkeypatch.setenv("AIOPOLL_WAIT", "both")

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, aiopoll.EventLoop)
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        pairs = []
        for number in range(200):
            pairs.append(await asyncio.open_connection(*address))
            await asyncio.sleep(0.0001 * (number % 3))  # some are made in each of both places
        for _ in range(50):
            pairs[0][1].write(b"talk")
            assert await pairs[0][0].readexactly(4) == b"talk"
        async with asyncio.timeout(CHILD_SECONDS_MAX):  # none stays on the ring but those that talk
            while loop.statistics().in_epoll < loop.statistics().watched - 2:
                pairs[0][1].write(b"talk")
                assert await pairs[0][0].readexactly(4) == b"talk"
        for reader, writer in pairs:  # the parked ones have lost nothing
            writer.write(b"parked")
            assert await reader.readexactly(6) == b"parked"
        for _, writer in pairs:
            writer.close()
            await writer.wait_closed()
        assert loop.statistics().moves > 50
        server.close()

    aiopoll.run(scenario())


@pytest.mark.parametrize("wait", ["set", "both"])
def test_pending_events_are_of_now(wait: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPOLL_WAIT", wait)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, aiopoll.EventLoop)
        read = loop.create_future()
        loop.add_reader(ours, lambda: read.set_result(ours.recv(10)))
        await asyncio.sleep(0)
        assert not loop.events_pending()
        theirs.send(b"pending")
        assert loop.events_pending() or not loop.statistics().user_ring
        assert await read == b"pending"
        loop.remove_reader(ours)
        assert not loop.events_pending()  # though the ring may have had an event

    aiopoll.run(scenario())
    ours.close()
    theirs.close()


def test_a_thread_wakes_a_loop_in_either_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPOLL_WAIT", "both")
    loop = aiopoll.new_event_loop()
    come: list[int] = []

    def take(number: int, done: threading.Event) -> None:
        come.append(number)
        done.set()

    def post() -> None:
        for number in range(500):
            done = threading.Event()
            loop.call_soon_threadsafe(take, number, done)
            assert done.wait(CHILD_SECONDS_MAX)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=post)
    thread.start()
    loop.run_forever()
    thread.join()
    loop.close()
    assert come == list(range(500))


def test_a_request_of_a_file_beside_files_that_move(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its event is in the ring when the iteration begins that moves a parked connection."""
    monkeypatch.setenv("AIOPOLL_WAIT", "both")
    path = tmp_path / "file"
    path.write_bytes(bytes(8192))

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        try:
            file = await aiopoll.open(path, "rb", buffering=0, direct=True)
        except OSError as error:
            pytest.skip(f"no O_DIRECT here: {error}")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            peer, _ = listener.accept()
            for number in range(30):
                peer.send(b"x")
                await reader.readexactly(1)
                if number % 3 == 0:
                    await asyncio.sleep(0.0005)
                await file.seek(0)
                read = asyncio.ensure_future(file.read(4096))
                loop.call_soon(loop.call_soon, time.sleep, 0.002)
                assert await asyncio.wait_for(read, CHILD_SECONDS_MAX) == bytes(4096)
            peer.close()
            writer.close()
            await writer.wait_closed()
        await file.close()

    start = time.monotonic()
    aiopoll.run(scenario())
    assert time.monotonic() - start < CHILD_SECONDS_MAX  # no timer has rescued it


@pytest.mark.parametrize("wait", ["ring", "set", "both"])
def test_a_given_up_number_stays_in_the_set(wait: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its program closes the socket object, and the peer sees the end."""
    monkeypatch.setenv("AIOPOLL_WAIT", wait)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)  # of the closed number
        for number in range(32):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                peer, _ = listener.accept()
            peer.settimeout(CHILD_SECONDS_MAX)
            for _ in range(1 + number % 4):
                peer.send(b"x")
                await reader.readexactly(1)
            ours = writer.get_extra_info("socket")
            for _ in range(1 + number // 4):
                peer.send(b"x")
                await reader.readexactly(1)
            ours._sock.close()
            assert await asyncio.to_thread(peer.recv, 1) == b""
            writer.transport.abort()
            peer.close()

    aiopoll.run(scenario())


@pytest.mark.parametrize("wait", ["set", "both"])
def test_a_set_that_was_made_anew_has_the_wakeup(
    wait: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOPOLL_WAIT", wait)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, aiopoll.EventLoop)
        ours, theirs = stream_pair()
        with theirs:
            for _ in range(8):  # of them, some are found in either place
                dead, peer = stream_pair()
                loop.add_reader(dead, lambda: None)
                await asyncio.sleep(0)
                with dead.dup(), peer:
                    dead.close()
                    peer.send(b"for the duplicate")
                    for _ in range(4):
                        await asyncio.sleep(0)
                for _ in range(4):  # in the set, for its number was given; no timer runs
                    found = asyncio.Event()
                    wake = loop.call_soon_threadsafe
                    threading.Timer(0.01, wake, [theirs.send, b"x"]).start()
                    loop.add_reader(ours.fileno(), found.set)
                    await found.wait()
                    assert ours.recv(2) == b"x"
                    loop.remove_reader(ours.fileno())
            ours.close()
        assert loop.statistics().rebuilt == 8

    aiopoll.run(scenario())


# Two windows of short rounds, of which the first ones of each, as many as it reads, do not sleep.
FIRST_WINDOW = """
#include <stdio.h>
#include <unistd.h>
#include "trial.h"

int main(void)
{
	struct trial trial;
	unsigned int awake;

	if (scanf("%u", &awake) != 1)
		return 1;
	trial_init(&trial);
	for (int window = 0; window < 2; window++) {
		bool look = false;

		for (unsigned int round = 0; round < TRIAL_ROUNDS; round++) {
			if (round >= awake)
				usleep(1);
			look = trial_round(&trial, 1, true);
		}
		putchar(look ? 'L' : '.');
	}
	return 0;
}
"""


def test_what_a_thread_did_before_is_not_compared(
    compiled: Callable[[str], Callable[[str], str]],
) -> None:
    assert compiled(FIRST_WINDOW)("0") == ".L"


@pytest.mark.parametrize(("awake", "windows"), [(100, ".L"), (140, ".."), (256, "..")])
def test_a_trial_needs_sleeps_in_half_of_the_rounds(
    compiled: Callable[[str], Callable[[str], str]], awake: int, windows: str
) -> None:
    assert compiled(FIRST_WINDOW)(str(awake)) == windows
