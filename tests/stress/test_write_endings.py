"""Written data and every way to end, from every place to write: the peer sees what asyncio's sees.

Rule.  Written data has reached the kernel when write() returns.  However the callback ends, the
peer receives the same bytes, once, and sees the same end.  MAY_LOSE lists the cases in which the
kernel may drop bytes that it was asked to hold back; with gather_writes=False it drops none.

The matrix is data in write_endings_matrix.py.  Each scenario runs in a process of its own, on a
loop of ours and on asyncio's own.  Only the views of the two peers are compared.  No outcome
depends on time: the peer waits for the bytes, the callback that blocks waits for the peer.
"""

import functools
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.support.tls import new_authority

from .write_endings_matrix import (
    DYING_AT_ONCE,
    ENDINGS,
    MAY_LOSE,
    TCP,
    TLS,
    TRANSPORTS,
    Patterns,
    Scenario,
    match,
    reason_not_to_run,
    scenarios,
)

ROOT = Path(__file__).parents[2]
ORACLE = "asyncio"
KINDS = ["aio", "epoll", *([ORACLE] if int(os.environ.get("AIOPOLL_SOAK", "1")) > 1 else [])]
PROGRAMS = 3  # of one kind, at a time: a process with an AIO context takes its time to die
HANG_S = float(os.environ.get("WRITE_ENDINGS_HANG_S", "20"))

Outcome = dict[str, Any]


class Programs:
    """The processes that run scenarios, started when they are needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority = new_authority()
        authority.cert_pem.write_to_path(folder / "authority.pem")
        certificate = authority.issue_cert("localhost")
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        self.running: dict[str, list[subprocess.Popen[str]]] = {}
        self.cached = functools.cache(self.run)

    def of(self, kind: str) -> list[subprocess.Popen[str]]:
        if kind not in self.running:
            command = [sys.executable, "-W", "ignore", "-m", "tests.stress.write_endings_program"]
            self.running[kind] = [
                subprocess.Popen(
                    [*command, kind, str(self.folder)],
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for _ in range(PROGRAMS)
            ]
        return self.running[kind]

    def run(self, kind: str, transport: str, ending: str) -> dict[Scenario, Outcome | None]:
        """The peer's view of each scenario; None where it was not run because others hung."""
        outcomes: dict[Scenario, Outcome | None] = {}

        def run_some(program: subprocess.Popen[str], some: list[Scenario]) -> None:
            assert program.stdin is not None
            assert program.stdout is not None
            program.stdin.write(json.dumps({"scenarios": some, "hang_s": HANG_S}) + "\n")
            program.stdin.flush()
            answer = program.stdout.readline()
            assert answer, f"the program for {kind} ended, with {program.wait()}"
            outcomes.update(zip(some, json.loads(answer), strict=True))

        every = list(scenarios(transport, ending))
        programs = self.of(kind)
        with ThreadPoolExecutor(PROGRAMS) as executor:
            shares = [every[number::PROGRAMS] for number in range(PROGRAMS)]
            list(executor.map(run_some, programs, shares))
        return outcomes

    def close(self) -> None:
        for program in itertools.chain.from_iterable(self.running.values()):
            with program:
                assert program.stdin is not None
                program.stdin.close()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    programs = Programs(tmp_path_factory.mktemp("endings"))
    yield programs
    programs.close()


GROUPS = [
    (transport, ending)
    for transport in TRANSPORTS
    for ending in ENDINGS
    if any(scenarios(transport, ending))
]


# With asyncio's loop of Python 3.15 some of these children never end: the others are compared.
HANGS_IN_ASYNCIO = "fork, child raises SystemExit"


def has_lost(seen: Outcome | None, expected: Outcome | None) -> bool:
    """Whether the last writes are missing, and nothing else differs."""
    if seen is None or expected is None or not expected["tail"].startswith(seen["tail"]):
        return False
    return seen | {"tail": expected["tail"]} == expected


def compare(
    programs: Programs, kind: str, transport: str, ending: str, may_lose: Patterns = ()
) -> None:
    expected = programs.cached(ORACLE, transport, ending)
    seen = programs.run(kind, transport, ending)
    if ending == HANGS_IN_ASYNCIO:
        expected = {
            name: outcome for name, outcome in expected.items() if outcome and not outcome["hung"]
        }
    assert [name for name, outcome in expected.items() if outcome is None] == []
    differing = [
        f"{scenario}:\n    {kind}: {seen[scenario]}\n    {ORACLE}: {expected[scenario]}"
        for scenario in expected
        if seen[scenario] != expected[scenario]
        and not (match(scenario, may_lose) and has_lost(seen[scenario], expected[scenario]))
    ]
    assert not differing, f"{len(differing)} of {len(seen)} differ:\n" + "\n".join(differing)


@pytest.mark.soak
@pytest.mark.subprocess
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("transport", "ending"), GROUPS)
def test_peer_sees_the_same_from_every_loop(
    programs: Programs, kind: str, transport: str, ending: str
) -> None:
    compare(programs, kind, transport, ending, () if kind == ORACLE else MAY_LOSE)


@pytest.mark.subprocess
@pytest.mark.parametrize("transport", [TCP, TLS])
@pytest.mark.parametrize("ending", DYING_AT_ONCE)
def test_nothing_is_lost_where_gathering_is_switched_off(
    programs: Programs, transport: str, ending: str
) -> None:
    compare(programs, "aio, not gathering", transport, ending)


def test_every_ending_runs_on_every_transport_or_is_excused() -> None:
    for transport in TRANSPORTS:
        for ending in ENDINGS:
            if (transport, ending) not in GROUPS:
                assert reason_not_to_run(Scenario(transport, "call_soon", ending, "fresh", 1))
