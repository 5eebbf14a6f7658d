"""The first seed that fails, looked for by several processes.

Facts: a run uses one core, and seeds do not depend on each other. A forked process has the test,
its module and its fixtures as they are, and the same order of sets.

Rule: job number j of n runs the seeds j, j + n, … and sends a byte for each that passes. It stops
at the first that fails. The smallest failing seed is the result, as with one process: the search
goes on until every job is past it. The failing run itself is repeated by the caller.

A job ends with its parent: it cannot send any more. Its parent kills those that it needs no more.
Left out: machines without fork.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

PASSED, FAILED = b"p", b"f"


@dataclass
class Progress:
    """How far a search is: `done` of `total` seeds. `rate` is in seeds per second of real time."""

    total: int
    done: int = 0
    started: float = 0.0

    @property
    def rate(self) -> float:
        passed = time.perf_counter() - self.started
        return self.done / passed if passed > 0 else 0.0


@dataclass
class _Job:
    pid: int
    end: int
    seeds: Sequence[int]
    done: int = 0

    @property
    def next_seed(self) -> int | None:
        return self.seeds[self.done] if self.done < len(self.seeds) else None


class JobDied(RuntimeError):
    """A process that ran seeds ended by a signal or an error, and not by a failing seed."""


def first_failing(
    fails: Callable[[int], bool],
    seeds: Sequence[int],
    *,
    jobs: int = 1,
    report: Callable[[Progress], None] | None = None,
) -> int | None:
    """Return the first of `seeds`, in ascending order, for which `fails` is true; None if none.

    `report` is called after each seed. JobDied if a process is killed.
    """
    progress = Progress(len(seeds), started=time.perf_counter())
    if jobs <= 1 or len(seeds) <= 1:
        for seed in seeds:
            if fails(seed):
                return seed
            progress.done += 1
            if report is not None:
                report(progress)
        return None
    with _Jobs(fails, seeds, min(jobs, len(seeds))) as running:
        return running.search(progress, report)


class _Jobs:
    """Forked processes that run seeds."""

    def __init__(self, fails: Callable[[int], bool], seeds: Sequence[int], count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._jobs: list[_Job] = []
        for number in range(count):
            own = seeds[number::count]
            receiving, sending = os.pipe()
            with warnings.catch_warnings():
                # A thread that another part of this process has started does not run seeds.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if not pid:
                _run_seeds(fails, own, sending)
            os.close(sending)
            job = _Job(pid, receiving, own)
            self._jobs.append(job)
            self._selector.register(receiving, selectors.EVENT_READ, job)

    def __enter__(self) -> _Jobs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._selector.close()
        for job in self._jobs:
            os.close(job.end)
            if job.pid:
                os.kill(job.pid, signal.SIGKILL)
                os.waitpid(job.pid, 0)

    def search(self, progress: Progress, report: Callable[[Progress], None] | None) -> int | None:
        found: int | None = None
        while any(self._matters(job, found) for job in self._jobs):
            for key, _ in self._selector.select():
                job: _Job = key.data
                for byte in os.read(job.end, 4096) or [None]:
                    if byte is None:
                        self._ended(job, found)
                    elif byte == PASSED[0]:
                        job.done += 1
                        progress.done += 1
                    else:
                        seed = job.next_seed
                        assert seed is not None
                        found = seed if found is None else min(found, seed)
                        # It stops there: no seed of its own matters any more.
                        job.seeds = job.seeds[: job.done]
                if report is not None:
                    report(progress)
        return found

    @staticmethod
    def _matters(job: _Job, found: int | None) -> bool:
        seed = job.next_seed
        return seed is not None and (found is None or seed < found)

    def _ended(self, job: _Job, found: int | None) -> None:
        self._selector.unregister(job.end)
        _, status = os.waitpid(job.pid, 0)
        pid, job.pid = job.pid, 0
        if self._matters(job, found):
            code = os.waitstatus_to_exitcode(status)
            how = f"by signal {-code}" if code < 0 else f"with status {code}"
            raise JobDied(f"process {pid}, which ran seed {job.next_seed}, ended {how}")


def _run_seeds(fails: Callable[[int], bool], seeds: Sequence[int], sending: int) -> None:
    """The whole life of a job."""
    status = 1
    try:
        # Ctrl-C goes to all processes of a terminal, and only the parent reports it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        for seed in seeds:
            failed = fails(seed)
            os.write(sending, FAILED if failed else PASSED)
            if failed:
                break
        status = 0
    finally:
        os._exit(status)
