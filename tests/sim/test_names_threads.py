"""Threads, locks, queues and executors inside a world."""

import _thread
import asyncio
import concurrent.futures
import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable
from threading import Lock as bound_lock
from typing import Any

import pytest

from aiopoll.sim import Deadlock, Escaped, World

from .inside_world import inside

lock_of_the_module = threading.Lock()
local_of_the_module = threading.local()
made_before = concurrent.futures.ThreadPoolExecutor(1)


def test_threads_sleep_in_virtual_time() -> None:
    def program() -> list[Any]:
        log: list[Any] = []

        def work(seconds: float) -> None:
            time.sleep(seconds)
            log.append((time.monotonic(), threading.current_thread().name))

        threads = [threading.Thread(target=work, args=(n,), name=f"t{n}") for n in (3, 1, 2)]
        for thread in threads:
            thread.start()
        assert all(thread.is_alive() for thread in threads)
        threads[0].join(timeout=0.5)
        assert threads[0].is_alive()
        assert time.monotonic() == 0.5
        for thread in threads:
            thread.join()
        assert not any(thread.is_alive() for thread in threads)
        return log

    assert inside(program) == [(1.0, "t1"), (2.0, "t2"), (3.0, "t3")]


@pytest.mark.parametrize("make", [threading.Lock, bound_lock, threading.RLock], ids=str)
def test_a_lock_is_held_by_one_thread_at_a_time(make: Any) -> None:
    name = {threading.Lock: "Lock", threading.RLock: "RLock"}[make]

    def program() -> float:
        lock = getattr(threading, name)()
        inside_now: list[int] = []

        def work() -> None:
            for _ in range(5):
                with lock:
                    inside_now.append(1)
                    time.sleep(0.1)
                    assert inside_now == [1]
                    inside_now.pop()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.monotonic()

    assert inside(program) == pytest.approx(2.0)


def test_a_lock_waits_as_long_as_it_is_asked_to() -> None:
    def program() -> None:
        lock = threading.Lock()
        assert lock.acquire()
        assert not lock.acquire(blocking=False)
        assert not lock.acquire(timeout=1.5)
        assert time.monotonic() == 1.5
        threading.Timer(1.0, lock.release).start()
        assert lock.acquire(timeout=5)
        assert time.monotonic() == 2.5
        lock.release()
        for error, call in (
            (RuntimeError, lock.release),
            (ValueError, lambda: lock.acquire(False, 1)),
            (ValueError, lambda: lock.acquire(timeout=-2)),
            (OverflowError, lambda: lock.acquire(timeout=1e12)),
        ):
            with pytest.raises(error):
                call()

    inside(program)


def conditions() -> int:
    condition, ready = threading.Condition(), []
    woken = []

    def consume() -> None:
        with condition:
            assert condition.wait_for(lambda: ready, timeout=60)
            woken.append(ready.pop())

    threads = [threading.Thread(target=consume) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(3):
        time.sleep(1)
        with condition:
            ready.append(n)
            condition.notify()
    for thread in threads:
        thread.join()
    return len(woken)


def events() -> int:
    event = threading.Event()
    assert not event.wait(1)
    threading.Timer(2, event.set).start()
    assert event.wait(10)
    return round(time.monotonic())


def semaphores() -> int:
    semaphore, most, now = threading.BoundedSemaphore(3), [0], [0]

    def work() -> None:
        with semaphore:
            now[0] += 1
            most[0] = max(most[0], now[0])
            time.sleep(1)
            now[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() == 3.0
    return most[0]


def barriers() -> int:
    barrier = threading.Barrier(3)
    places: list[int] = []

    def work(seconds: int) -> None:
        time.sleep(seconds)
        places.append(barrier.wait())
        assert time.monotonic() == 3.0

    threads = [threading.Thread(target=work, args=(n,)) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(places) == [0, 1, 2]
    return len(places)


def queues() -> int:
    tasks: Any = queue.Queue(maxsize=2)
    results: Any = queue.SimpleQueue()

    def work() -> None:
        while (n := tasks.get()) is not None:
            time.sleep(0.5)
            results.put(n)
            tasks.task_done()
        tasks.task_done()

    thread = threading.Thread(target=work)
    thread.start()
    for n in (1, 2, 3, 4, None):
        tasks.put(n)
    tasks.join()
    thread.join()
    with pytest.raises(queue.Empty):
        [results.get(timeout=1) for _ in range(5)]
    with pytest.raises(queue.Empty):
        results.get_nowait()
    return round(time.monotonic())


@pytest.mark.parametrize(
    ("function", "expected"),
    [(conditions, 3), (events, 3), (semaphores, 3), (barriers, 3), (queues, 3)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_stands_on_locks_works(function: Callable[[], int], expected: int) -> None:
    assert inside(function) == expected
    assert inside(lambda: asyncio.to_thread(function), seed=2) == expected


def test_a_local_belongs_to_its_thread() -> None:
    class Counted(threading.local):
        def __init__(self, start: int) -> None:
            self.count = start

    def program() -> list[Any]:
        class Mine(threading.local):
            def __init__(self, start: int) -> None:
                self.count = start

        mine, plain, seen = Mine(5), threading.local(), []
        mine.count, plain.x, local_of_the_module.x = 6, 1, 1

        def work() -> None:
            seen.append((mine.count, hasattr(plain, "x"), hasattr(local_of_the_module, "x")))
            plain.x = 2
            time.sleep(1)
            seen.append(plain.x)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        with pytest.raises(TypeError):
            threading.local(3)
        del plain.x
        with pytest.raises(AttributeError):
            plain.x  # noqa: B018
        return [*seen, mine.count, mine.__dict__, local_of_the_module.x]

    local_of_the_module.x = 7
    assert inside(program) == [(5, False, False), 2, 6, {"count": 6}, 1]
    assert local_of_the_module.x == 7
    assert Counted(1).count == 1


def test_a_lock_of_a_module_is_the_worlds() -> None:
    def program() -> float:
        def work() -> None:
            with lock_of_the_module:
                time.sleep(1)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not lock_of_the_module.locked()
        return time.monotonic()

    # Held outside: a thread of a host that waited for it would wait for ever.
    with lock_of_the_module:
        assert inside(program) == 3.0
        assert lock_of_the_module.locked()
    assert type(lock_of_the_module) is _thread.LockType


def test_executors_run_on_threads_of_the_host() -> None:
    def program() -> list[Any]:
        with concurrent.futures.ThreadPoolExecutor(2) as executor:
            futures = [executor.submit(time.sleep, n) for n in (3, 1, 2)]
            done, _ = concurrent.futures.wait(
                futures, return_when=concurrent.futures.FIRST_COMPLETED
            )
            assert done == {futures[1]}
            order = [futures.index(one) for one in concurrent.futures.as_completed(futures)]
            failing = executor.submit(lambda: 1 / 0)
            assert isinstance(failing.exception(), ZeroDivisionError)
        return [order, time.monotonic()]

    found = inside(program)
    assert found[1] == 3.0
    assert found[0][0] == 1
    assert inside(program) == found


def test_asyncio_and_threads_meet() -> None:
    async def program() -> list[Any]:
        loop = asyncio.get_running_loop()

        def work() -> Any:
            future = asyncio.run_coroutine_threadsafe(asyncio.sleep(2, "slept"), loop)
            return future.result(), time.monotonic(), asyncio.run(asyncio.sleep(1, "own loop"))

        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            first = await loop.run_in_executor(executor, work)
            second = await asyncio.gather(asyncio.to_thread(work), asyncio.to_thread(work))
        return [first, *second]

    assert inside(program) == [("slept", t, "own loop") for t in (2.0, 5.0, 5.0)]


def test_an_executor_of_before_is_refused() -> None:
    with pytest.raises(Escaped, match=r"ThreadPoolExecutor made before the run.*test_names_thr"):
        inside(lambda: made_before.submit(print))


def test_a_deadlock_names_the_lock_and_its_owner() -> None:
    def program() -> None:
        first, second = threading.Lock(), threading.Lock()

        def work(one: Any, other: Any) -> None:
            with one:
                time.sleep(1)
                with other:
                    pass

        threads = [
            threading.Thread(target=work, args=pair) for pair in ((first, second), (second, first))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with pytest.raises(Deadlock) as caught:
        inside(program)
    text = str(caught.value)
    assert f"main Thread-1 (work) waits for lock made at {__file__}:" in text
    assert "held by main Thread-1 (work)" in text
    assert "main waits for the end of main Thread-1 (work)" in text


def test_the_threads_of_a_host_are_its_own() -> None:
    async def program(world: World) -> list[Any]:
        seen: list[Any] = []

        def node() -> None:
            thread = threading.Thread(target=time.sleep, args=(5,), name="helper")
            thread.start()
            assert threading.current_thread() is threading.main_thread()
            seen.append(sorted(one.name for one in threading.enumerate()))
            seen.append(threading.active_count())

        world.host("a", node)
        world.host("b", node)
        await asyncio.sleep(1)
        assert threading.current_thread() is threading.main_thread()
        seen.append([one.name for one in threading.enumerate()])
        return seen

    names = ["MainThread", "helper"]
    assert inside(program) == [names, 2, names, 2, ["MainThread"]]


def test_nothing_of_a_world_stays_in_the_process() -> None:
    def program() -> None:
        thread = threading.Thread(target=threading.Event().wait, args=(1e6,))
        thread.start()
        executor = concurrent.futures.ThreadPoolExecutor(1)
        executor.submit(time.sleep, 1e6)
        time.sleep(1)
        assert threading.active_count() == 3

    before = set(threading._active), threading.enumerate()  # type: ignore[attr-defined]
    inside(program)
    after = set(threading._active), threading.enumerate()  # type: ignore[attr-defined]
    assert after == before
    if sys.version_info < (3, 13):
        assert all(type(lock) is _thread.LockType for lock in threading._shutdown_locks)  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(6))
def test_the_order_of_threads_is_a_draw(seed: int) -> None:
    assert inside(racing, seed) == inside(racing, seed)


def test_seeds_find_more_than_one_order_of_threads() -> None:
    assert len({inside(racing, seed) for seed in range(12)}) > 1


def racing() -> str:
    log: list[str] = []
    lock = threading.Lock()

    def work(name: str) -> None:
        for _ in range(3):
            with lock, contextlib.suppress(ValueError):
                log.append(name)
                time.sleep(0.001)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return "".join(log)


@pytest.mark.parametrize("seed", range(60))
def test_a_lock_wakes_its_waiters_in_every_order(seed: int) -> None:
    """A waiter that was woken, and found the lock taken again, waits on; it is not forgotten."""

    def program() -> int:
        semaphore = threading.Semaphore(2)
        done: list[int] = []

        def work() -> None:
            for _ in range(2):
                with semaphore:
                    time.sleep(1)
                    done.append(1)

        threads = [threading.Thread(target=work) for _ in range(7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(done)

    assert inside(program, seed=seed) == 14
