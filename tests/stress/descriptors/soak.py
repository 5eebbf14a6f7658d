"""Operations lose their files to strangers, many at a time; each byte's addressee is checked."""

import asyncio
import collections
import os
import random
import signal
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .case import Case
from .guests import GUESTS
from .operation import ASYNCIO, Bench, Operation, is_bad_descriptor
from .owners import WAYS, take_by_opening
from .sockets import unix_pair
from .strangers import WEIGHTS, Strangers

PATIENCE = 30
"""Seconds after which missing data counts as lost."""
BATCH = 64
SLOW_BATCH = 2
SLOW_EACH = 10
"""Batches between two of the kinds that take long."""
FAILURES_MAX = 20


class Hung(KeyboardInterrupt):
    """The loop has run no iteration for a long time: it waits for a stranger."""


class Soak:
    """Runs batches of cases on one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, loop_kind: str, seed: int) -> None:
        self.loop, self.loop_kind = loop, loop_kind
        self.random = random.Random(seed)
        self.strangers = Strangers()
        self.asyncios = loop_kind in ASYNCIO
        self.bench = Bench(loop, self.random, self.strangers.pairs, self.asyncios)
        self.thread = ThreadPoolExecutor(1)
        self.reuses: collections.Counter[str] = collections.Counter()
        self.failures: collections.Counter[str] = collections.Counter()
        self.lingering: list[Case] = []
        self.watched = 0
        """How many files the loop waited for at the start."""
        loop.set_exception_handler(self.report)

    def close(self) -> None:
        self.thread.shutdown()
        self.bench.close()
        self.strangers.close()

    def report(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The loop's exception handler: a lost file may be reported, nothing else."""
        if not is_bad_descriptor(context.get("exception")):
            self.failures[f"reported: {context['message']} {context.get('exception')!r}"] += 1

    def fail(self, case: Case, error: BaseException) -> None:
        case.broken = True
        if isinstance(error, AssertionError):
            told = str(error)
        else:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            told = f"{error!r} in {frame.name}, {frame.filename}:{frame.lineno}"
        self.failures[f"{case}: {told}"] += 1

    def judged(self, case: Case) -> "Judged":
        return Judged(self, case)

    async def turns(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def until(self, cases: list[Case], condition: Callable[[Case], bool], what: str) -> None:
        """Runs the loop until it holds for all; it may have to sleep for it."""
        deadline = time.monotonic() + PATIENCE
        turns = 0
        while waiting := [case for case in cases if not case.abandoned and not condition(case)]:
            turns += 1
            await asyncio.sleep(0 if turns < 20 else 0.001)
            if time.monotonic() > deadline:
                for case in waiting:
                    case.abandoned = True
                    self.fail(case, AssertionError(what))

    def case(self, kind: type[Operation]) -> Case:
        """A case by chance."""
        chance = self.random.random
        operation = kind(self.bench)
        if operation.can_complete and chance() < 0.05:
            return Case(operation, None)
        way = self.random.choice([way for way in WAYS if operation.takes(way)])
        case = Case(operation, way)
        [stranger_kind] = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        if not self.asyncios:
            if operation.takes_guests and stranger_kind.takes_guests and chance() < 0.12:
                case.guest_kind = self.random.choice(GUESTS)
            case.lingers = operation.can_linger and chance() < 0.15
        blocking = case.guest_kind is None and chance() < 0.5
        case.stranger = self.strangers.lend(stranger_kind, blocking)
        case.spoken_first = chance() < 0.3
        case.by_thread = chance() < 0.03
        if chance() < 0.1:
            case.take = take_by_opening
        return case

    def discard(self, case: Case) -> None:
        """Releases the objects of a case that is not run."""
        case.operation.dispose()
        if case.stranger is not None:
            self.strangers.give_back(case.stranger)

    def lose(self, case: Case) -> None:
        """The owner releases the file, and the stranger has the number."""
        operation, way, stranger = case.operation, case.way, case.stranger
        assert way is not None
        assert stranger is not None
        waiting = operation.in_flight()
        if way.keeps_duplicate:
            case.duplicate = os.dup(case.number)
        case.taken = way.let_go(operation.file, case.number, stranger, case.take)
        if waiting and case.taken:
            self.reuses[operation.kind] += 1

    def after_loss(self, case: Case) -> None:
        """No iteration of the loop comes in between, except for a file that a thread has closed."""
        with self.judged(case):
            if case.duplicate >= 0:
                case.operation.disturb(case.duplicate)
                return
            patience = time.monotonic() + (2 if getattr(case.operation, "tcp", False) else 0)
            while not case.operation.peer_sees_end():
                assert time.monotonic() < patience, "the peer sees no end"

    async def lose_all(self, cases: list[Case]) -> None:
        """All owners release their files: some in the iteration that finds them ready."""
        for case in cases:
            with self.judged(case):
                case.number = case.operation.number()
                assert case.number >= 0, "the loop has closed a file whose owner has not"
        cases = [case for case in cases if not case.broken]
        at_once = [case for case in cases if not case.by_thread]
        threaded = [case for case in cases if case.by_thread]
        if self.random.random() < 0.5:
            self.speak_first(at_once)
            self.lose_now(at_once)
        else:
            await self.in_ready_callback(at_once)
        if not threaded:
            return
        for case in threaded:
            case.operation.before_loss()
        self.speak_first(threaded)
        closing = self.thread.submit(self.lose_in_thread, threaded)
        if not self.asyncios:  # these are lost where a number is taken before its call has ended
            await self.until(threaded[:1], lambda _: closing.done(), "the thread hangs")
        closing.result(PATIENCE)
        for case in threaded:
            self.after_loss(case)

    def lose_in_thread(self, cases: list[Case]) -> None:
        for case in cases:
            with self.judged(case):
                self.lose(case)

    def speak_first(self, cases: list[Case]) -> None:
        for case in cases:
            if case.spoken_first:
                with self.judged(case):
                    case.operation.speak()

    def lose_now(self, cases: list[Case]) -> None:
        for case in cases:
            with self.judged(case):
                case.operation.before_loss()
                self.lose(case)
                self.after_loss(case)

    async def in_ready_callback(self, cases: list[Case]) -> None:
        """Loses them when the loop has found them ready, but has not run their callbacks yet."""
        inside, outside = unix_pair()
        lost = self.loop.create_future()

        def called() -> None:
            inside.recv(1)
            self.loop.remove_reader(inside)
            self.lose_now(cases)
            lost.set_result(None)

        self.loop.add_reader(inside, called)
        await self.turns(2)
        outside.send(b"x")  # the first that is ready, and so the first that is called
        self.speak_first(cases)
        await lost
        inside.close()
        outside.close()

    async def run(self, kinds: list[type[Operation]], goes_on: Callable[[], bool]) -> None:
        """Batches of all kinds; those that take long run beside the others, and less often."""
        quick = [kind for kind in kinds if not kind.slow]
        slow = [kind for kind in kinds if kind.slow]
        beside: asyncio.Future[None] | None = None
        batches = 0
        while goes_on() and len(self.failures) < FAILURES_MAX:
            if slow and batches % SLOW_EACH == 0:
                if beside is not None:
                    await beside
                beside = self.loop.create_task(self.batch(self.chosen(slow, SLOW_BATCH)))
            batches += 1
            await self.batch(self.chosen(quick, BATCH))
        if beside is not None:
            await beside
        await self.end_lingering()

    def chosen(self, kinds: list[type[Operation]], count: int) -> list[Case]:
        weights = [kind.weight for kind in kinds]
        return [self.case(kind) for kind in self.random.choices(kinds, weights, k=count)]

    async def batch(
        self,
        cases: Sequence[Case],
        while_lost: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Begins all, loses the files, lets peers and strangers speak, ends all, and checks."""
        cases = list(cases)
        await self.begin(cases)
        losing = [case for case in cases if case.way is not None and not case.broken]
        keeping = [case for case in cases if case.way is None and not case.broken]
        await self.lose_all(losing)
        await self.speak(losing, keeping)
        if while_lost is not None:
            await while_lost()
        for case in losing:
            with self.judged(case):
                case.operation.poke()
        await self.turns(self.random.randrange(3))
        await self.end_lingering()
        await self.until(keeping, lambda case: case.operation.has_completed(), "has not completed")
        await self.end([case for case in cases if not case.lingers])
        await self.leave(losing)
        for case in cases:
            if case.lingers:
                self.lingering.append(case)
            else:
                self.dispose(case)

    async def begin(self, cases: list[Case]) -> None:
        starting: list[tuple[Case, asyncio.Future[Any]]] = []
        for case in cases:
            with self.judged(case):
                future = case.operation.begin()
                if future is not None:
                    starting.append((case, future))
        for case, future in starting:
            with self.judged(case):
                await future
        for case in cases:
            case.abandoned = case.broken
        await self.turns(self.random.randrange(4))

    async def speak(self, losing: list[Case], keeping: list[Case]) -> None:
        """Permitted speakers speak; strangers must have their own data after all later steps."""
        visited = []
        for case in losing:
            if case.guest_kind is not None and case.taken and case.stranger is not None:
                with self.judged(case):
                    case.guest = case.guest_kind(self.loop, case.number, case.stranger)
                    await asyncio.wait_for(case.guest.begin(), PATIENCE)
                    visited.append(case)
        for case in losing + keeping:
            with self.judged(case):
                if case.stranger is not None:
                    case.stranger.speak()
                if case.way is None or case.duplicate >= 0 or not case.spoken_first:
                    case.operation.speak()
        await self.turns(2 + self.random.randrange(3))
        await self.heard_by_guests(visited, 1)

    async def heard_by_guests(self, cases: list[Case], blocks: int) -> None:
        await self.until(
            cases,
            lambda case: case.guest is None or case.guest.has_heard(blocks),
            "the loop does not serve the stranger that has the number",
        )

    async def end(self, cases: list[Case]) -> None:
        cases = [case for case in cases if not case.abandoned]
        for case in cases:
            with self.judged(case):
                case.operation.end(case.guest is not None)
        await self.until(cases, lambda case: case.operation.is_over(), "does not end")
        for case in (case for case in cases if not case.broken):
            with self.judged(case):
                case.operation.check(case.way is not None)

    async def end_lingering(self) -> None:
        """Ends operations that lost their number long ago, while others of the loop have it."""
        lingering, self.lingering = self.lingering, []
        await self.end(lingering)
        for case in lingering:
            self.dispose(case)

    async def leave(self, cases: list[Case]) -> None:
        """The strangers leave the numbers."""
        visited = [case for case in cases if case.guest is not None]
        for case in visited:
            assert case.stranger is not None
            with self.judged(case):
                case.stranger.speak()
        await self.heard_by_guests(visited, 2)
        for case in cases:
            stranger = case.stranger
            assert stranger is not None
            unharmed = False
            with self.judged(case):
                if case.taken:
                    same = os.path.sameopenfile(case.number, stranger.fd)
                    assert same, "a stranger's number was closed"
                if case.guest is not None:
                    await asyncio.wait_for(case.guest.end(), PATIENCE)
                    stranger.spoken = 0
                    assert not case.guest.faults, case.guest.faults[0]
                elif case.taken:
                    os.close(case.number)
                stranger.check()
                unharmed = True
            if unharmed:
                self.strangers.give_back(stranger)
            else:
                stranger.close()

    def dispose(self, case: Case) -> None:
        if case.duplicate >= 0:
            os.close(case.duplicate)
        case.operation.dispose()


class Judged:
    """A block whose error is the case's failure."""

    def __init__(self, soak: Soak, case: Case) -> None:
        self.soak, self.case = soak, case

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: Any, error: BaseException | None, where: Any) -> bool:
        if not isinstance(error, Exception):
            return False
        self.soak.fail(self.case, error)
        return True


@contextmanager
def alarm(seconds: int) -> Iterator[Callable[[], None]]:
    """Interrupts a blocking call; yields a function that sets the time again."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Hung(f"nothing has happened for {seconds} seconds")

    def again() -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds, 5)

    previous = signal.signal(signal.SIGALRM, interrupt)
    again()
    try:
        yield again
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
