"""Stand-ins that stay between the runs of a search: modules agree on what was made in one."""

import importlib
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

from aiopoll import sim
from aiopoll.sim import World
from aiopoll.sim.run import run_once, searching
from aiopoll.sim.tape import Plain, Tape


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of modules: the first makes a local and a lock, the others bind them and a clock."""
    names = [f"planted_{number}" for number in range(3)]
    (tmp_path / f"{names[0]}.py").write_text(
        "import threading\n"
        "from time import monotonic\n"
        "local = threading.local()\n"
        "lock = threading.Lock()\n"
    )
    for name in names[1:]:
        (tmp_path / f"{name}.py").write_text(f"from {names[0]} import local, lock, monotonic\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield names
    for name in names:
        sys.modules.pop(name, None)


def test_modules_of_different_runs_share_what_they_bind(modules: list[str]) -> None:
    def imports(name: str):
        async def program(world: World) -> float:
            module = importlib.import_module(name)
            assert module.lock.acquire(False)
            module.lock.release()
            module.local.value = name
            assert importlib.import_module(modules[0]).local.value == name
            await world.sleep(3)
            return module.monotonic()

        return program

    first = sys.modules.get
    with searching():
        for name in modules:
            outcome = run_once(imports(name), Tape(Plain()))
            assert outcome.error is None, outcome.error
            assert outcome.result == 3.0
            loaded = [first(other) for other in modules if first(other) is not None]
            assert len({id(module.local) for module in loaded}) == 1
            assert len({id(module.lock) for module in loaded}) == 1
            loaded[0].local.outside = name
            assert all(module.local.outside == name for module in loaded)
    loaded = [first(name) for name in modules]
    assert all(module.monotonic is time.monotonic for module in loaded)
    assert {type(module.local) for module in loaded} == {threading.local}
    assert {type(module.lock) for module in loaded} == {type(threading.Lock())}


def test_a_lock_that_a_module_binds_anew_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module does not grow by it, so that no search for names sees it."""
    module = ModuleType("rebinds")
    vars(module).update(local=threading.local(), lock=threading.Lock())
    monkeypatch.setitem(sys.modules, "rebinds", module)

    async def program(world: World) -> set[str]:
        return {type(module.local).__name__, type(module.lock).__name__}

    seen = [sim.run(program, seed=1)]
    vars(module).update(local=threading.local(), lock=threading.Lock())
    real = module.local, module.lock
    seen.append(sim.run(program, seed=1))
    assert seen == [{"SharedLocal", "SharedLock"}] * 2
    assert (module.local, module.lock) == real
