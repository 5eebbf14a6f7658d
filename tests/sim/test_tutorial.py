"""docs/tutorial/find-a-bug.md: its program, the bugs that it finds, and its code on the page."""

import importlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from aiopoll.sim.history import NotLinearizable
from aiopoll.sim.run import Outcome
from aiopoll.sim.testing import SimTest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PAGE = (ROOT / "docs" / "tutorial" / "find-a-bug.md").read_text(encoding="utf-8")
PROGRAM = (EXAMPLES / "sim_store.py").read_text(encoding="utf-8")
TESTS = (EXAMPLES / "test_sim_store.py").read_text(encoding="utf-8")
MODULES = ("sim_store", "test_sim_store")
WRITE_BACK = "        await self.majority(key, entry)\n"
NAME = "        sync_name(path)\n"
FSYNC = "            os.fsync(self.log.fileno())\n"

Load = Callable[[str], ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """A function that imports the test's module, with a line of the program left out."""
    monkeypatch.syspath_prepend(tmp_path)

    def imported(left_out: str) -> ModuleType:
        assert PROGRAM.count(left_out) == 1 or not left_out
        (tmp_path / "sim_store.py").write_text(PROGRAM.replace(left_out, ""))
        shutil.copy(EXAMPLES / "test_sim_store.py", tmp_path)
        return importlib.import_module("test_sim_store")

    yield imported
    for name in MODULES:
        sys.modules.pop(name, None)


def first_failure(test: SimTest, seeds: int) -> Outcome | None:
    for seed in range(seeds):
        outcome = test.run(test.tape_of(seed), {})
        if outcome.failed:
            return outcome
    return None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_it_is_like_one_copy", "test_it_keeps_what_it_confirmed"])
def test_the_mended_store_passes(load: Load, name: str) -> None:
    failure = first_failure(getattr(load(""), name).sim_test, seeds=10)
    assert failure is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("left_out", "name"),
    [
        (WRITE_BACK, "test_it_is_like_one_copy"),
        (NAME, "test_it_keeps_what_it_confirmed"),
        (FSYNC, "test_it_keeps_what_it_confirmed"),
    ],
)
def test_each_bug_of_the_page_is_found(load: Load, left_out: str, name: str) -> None:
    failure = first_failure(getattr(load(left_out), name).sim_test, seeds=100)
    assert failure is not None
    assert isinstance(failure.error, NotLinearizable)


@pytest.mark.parametrize(
    "code", re.findall(r"^```py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL), ids=lambda _: ""
)
def test_the_page_shows_code_of_the_files(code: str) -> None:
    assert code in PROGRAM or code in TESTS or code in PROGRAM.replace(WRITE_BACK, "")
