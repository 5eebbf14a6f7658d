"""The pages on the simulator: the tutorial's program and bugs, and names that exist."""

import importlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from aiopoll import sim
from aiopoll.sim.history import NotLinearizable
from aiopoll.sim.run import Outcome
from aiopoll.sim.tape import Plain, Tape
from aiopoll.sim.testing import SimTest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
DOCS = ROOT / "docs"
PAGES = ["reference/sim.md", "how-to/test-a-service.md", "tutorial/find-a-bug.md"]
PAGE = (DOCS / "tutorial" / "find-a-bug.md").read_text(encoding="utf-8")
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


@pytest.mark.parametrize("page", PAGES)
def test_names_on_the_pages_exist(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    owners = {"sim": sim, "world": sim.World(Tape(Plain())), "host": sim.Host}
    found = set(re.findall(r"(?<![\w/.])(sim|world|host)\.(\w+)\b(?!\.md)", text))
    assert found
    # Of an instance, or of a file's name.
    assert {(owner, name) for owner, name in found if not hasattr(owners[owner], name)} <= {
        ("host", "state"),
        ("host", "disk"),
        ("sim", "md"),
    }


def test_the_reference_has_each_public_name() -> None:
    text = (DOCS / "reference" / "sim.md").read_text(encoding="utf-8")
    names = [name for name in vars(sim) if not name.startswith("_")]
    public = [name for name in names if not isinstance(getattr(sim, name), ModuleType)]
    assert len(public) > 10
    assert [name for name in public if not re.search(rf"\b{name}\b", text)] == []
    of_chaos = list(vars(sim.chaos()))
    assert [name for name in of_chaos if f"`{name}" not in text] == []
