"""The faults of tools/mutants.toml still apply, and each area has enough of them."""

from collections import Counter
from pathlib import Path

import pytest
from tools.mutants import Mutant, apply, load, users_of, verdict_of

ROOT = Path(__file__).parents[2]
MUTANTS = load()

AREAS = {
    "ring",
    "reactor",
    "handles",
    "timers",
    "stream",
    "datagram",
    "pipe",
    "accept",
    "TLS",
    "sock methods",
    "files",
    "streams",
    "selector",
    "subprocess",
    "in-process kernel",
    "kv",
    "command",
}
PER_AREA_MIN = 3
TOTAL_MIN = 60
EQUIVALENT_MAX = 0.05


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_applies_and_names_its_tests(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert apply(text, mutant) != text
    assert Path(mutant.file).suffix in (".py", ".pyx", ".h")  # tools/mutants.py can build these
    named = [word.split("::")[0] for word in mutant.tests.split() if word.startswith("tests/")]
    assert named, "it names no tests"
    for word in named:
        assert (ROOT / word).exists(), word


def test_there_are_enough_and_each_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= TOTAL_MIN
    counts = Counter(mutant.area for mutant in MUTANTS if not mutant.equivalent)
    assert set(counts) == AREAS
    assert {area: count for area, count in counts.items() if count < PER_AREA_MIN} == {}
    assert sum(bool(mutant.equivalent) for mutant in MUTANTS) <= EQUIVALENT_MAX * len(MUTANTS)


def test_a_text_that_occurs_twice_or_never_does_not_apply() -> None:
    mutant = Mutant("name", "kv", "file", "search", "replaced", "tests/loop")
    assert apply("a search b", mutant) == "a replaced b"
    for text in ("", "search search"):
        with pytest.raises(ValueError, match="occurs"):
            apply(text, mutant)


def test_the_users_of_a_header_are_found() -> None:
    def names(header: str) -> set[str]:
        return {path.stem for path in users_of(header, ROOT / "src")}

    assert names("timer_heap.h") == {"core", "loop_timers"}
    assert {"context", "aio_reactor", "own_ring"} <= names("ring.h")
    assert names("ring.h") < names("abi.h")  # which ring.h includes


def test_result_of_pytest_is_understood() -> None:
    assert verdict_of(0, "1 passed", 1.0)[0] == "survived"
    assert verdict_of(None, "", 1.0) == ("caught", 1.0, "hung")
    assert verdict_of(-11, "", 1.0) == ("caught", 1.0, "died of signal 11")
    assert verdict_of(1, "FAILED tests/a.py::test_b - x\n", 1.0)[2] == "tests/a.py::test_b"
    assert verdict_of(2, "ERROR tests/a.py\n", 1.0)[0] == "caught"
    assert verdict_of(5, "no tests ran", 1.0)[0] == "broken"
    assert verdict_of(4, "ERROR: not found: tests/a.py\n", 1.0)[0] == "broken"
