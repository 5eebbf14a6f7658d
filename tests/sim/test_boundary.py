"""docs/reference/sim-boundary.toml: each name is tried, and no replacement is missing in it."""

import asyncio
import concurrent.futures
import importlib
import subprocess
import sys
import threading
import time
import tomllib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiopoll.sim import Escaped, World
from aiopoll.sim import names as sim_names

from .inside_world import inside

ROOT = Path(__file__).parents[2]
DATA = ROOT / "docs" / "reference" / "sim-boundary.toml"
MODULES: list[dict[str, Any]] = tomllib.loads(DATA.read_text(encoding="utf-8"))["module"]
STATES = {"simulated", "refused", "outside", "pure"}
BOOT = 1_522_281_600
AT_ITS_LINE = r"outside of the simulated world, at .*(<string>:1|test_boundary\.py:\d+): "
# Of these the table has the names that programs use most; their own tests have all.
FILES = tuple(f"aiopoll.sim.names.{part}" for part in ("files", "async_files", "imports"))


def entries(kind: str) -> list[Any]:
    return [
        pytest.param(module["name"], name, expression, id=f"{module['name']}.{name}")
        for module in MODULES
        for name, expression in module.get(kind, {}).items()
        if exists(module["name"], name)
    ]


def exists(module: str, name: str) -> bool:
    """Whether this version of Python has the name."""
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            if isinstance(found, types.ModuleType) and not hasattr(found, part):
                found = importlib.import_module(f"{found.__name__}.{part}")
            else:
                found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return True


# What the expressions use


def took(call: Callable[..., Any], *args: Any) -> float:
    begun = time.monotonic()
    call(*args)
    return round(time.monotonic() - begun, 3)


def raises(error: type[BaseException], call: Callable[[], Any]) -> bool:
    with pytest.raises(error):
        call()
    return True


def shuffled(shuffle: Callable[[list[int]], None]) -> list[int]:
    numbers = list(range(50))
    shuffle(numbers)
    return numbers


def in_thread(call: Callable[[], Any]) -> Any:
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return executor.submit(call).result()


async def awaits(call: Callable[[], Any]) -> Any:
    return await call()


def run_thread() -> None:
    thread = threading.Thread(target=time.sleep, args=(5,))
    thread.start()
    thread.join()


def run_timer() -> None:
    event = threading.Event()
    threading.Timer(5, event.set).start()
    event.wait()


def run_executor() -> None:
    in_thread(lambda: time.sleep(5))


def condition_times_out() -> float:
    with threading.Condition() as condition:
        pass
    condition = threading.Condition()
    with condition:
        return took(condition.wait, 5)


def ordered() -> list[int]:
    async def number(n: int) -> int:
        return n

    async def program() -> list[int]:
        return [await one for one in asyncio.as_completed([number(n) for n in range(50)])]

    return asyncio.run(program())


def waits_for_signal(call: Callable[[], Any]) -> Any:
    signal = sys.modules["signal"]
    os = sys.modules["os"]
    signal.signal(10, lambda *_: None)
    threading.Timer(1, os.kill, (1, 10)).start()
    return call()


def try_in_world(expression: str, seed: int = 1) -> tuple[Any, list[str]]:
    """The value of an expression inside a world, and the draws that it calls alike."""
    drawn: list[str] = []

    def program(world: World) -> Any:
        def alike(call: Callable[[], Any]) -> bool:
            drawn.append(repr(call()))
            return True

        def ends(call: Callable[[], Any]) -> bool:
            host = world.host("ended", call)
            time.sleep(1)
            return host.phase.name == "EXITED"

        values = {**globals(), "alike": alike, "ends": ends, "world": world}
        return eval(expression, {**values, **LOADED})

    return inside(program, seed), drawn


def load() -> dict[str, types.ModuleType]:
    loaded = {}
    for module in MODULES:
        if module.get("simulated") or module.get("refused"):
            try:
                loaded[module["name"]] = importlib.import_module(module["name"])
            except ImportError:
                continue
    importlib.import_module("concurrent.futures")
    return loaded


LOADED = load()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("module", "name", "expression"), entries("simulated"))
def test_a_simulated_name_is_the_worlds(module: str, name: str, expression: str) -> None:
    value, drawn = try_in_world(expression)
    assert value is True, expression
    if "alike(" in expression:
        assert drawn
        assert try_in_world(expression)[1] == drawn
        assert try_in_world(expression, seed=2)[1] != drawn


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("module", "name", "expression"), entries("refused"))
def test_a_refused_name_raises_at_its_line(module: str, name: str, expression: str) -> None:
    with pytest.raises(Escaped, match=AT_ITS_LINE):
        try_in_world(expression)


def test_each_module_of_the_library_has_an_entry() -> None:
    names = [module["name"] for module in MODULES]
    assert names == sorted(set(names))
    known = {name for name in sys.stdlib_module_names if not name.startswith("_")}
    assert sorted(known - set(names)) == []


def test_entries_are_well_formed() -> None:
    for module in MODULES:
        assert module["state"] in STATES, module
        assert module["note"].endswith("."), module
        has_names = bool(module.get("simulated") or module.get("refused"))
        assert has_names == (module["state"] in ("simulated", "refused")), module
        if module["state"] == "refused":
            assert not module.get("simulated"), module
        assert set(module) <= {"name", "state", "note", "simulated", "refused"}, module


def test_every_replacement_is_in_the_table() -> None:
    table = {
        f"{module['name']}.{name}"
        for module in MODULES
        for kind in ("simulated", "refused")
        for name in module.get(kind, {})
    }
    missing = []
    for part in sim_names._parts():
        if part.__name__ in FILES:
            continue
        for owner, name, _ in part.replacements():
            module = owner.__name__ if isinstance(owner, types.ModuleType) else owner.__module__
            if isinstance(owner, type):
                name = f"{owner.__name__}.{name}"
            top = module.partition(".")[0]
            private = top.startswith("_") or name.startswith("_make_") or "__hash__" in name
            if top in sys.stdlib_module_names and not private:
                found = {f"{top}.{name}", f"{module}.{name}"}
                if not found & table and SHOWN_AS.get(f"{module}.{name}", "") not in table:
                    missing.append(f"{module}.{name}")
    assert missing == []


# Replacements under the name by which programs know them.
SHOWN_AS = {
    "asyncio.tasks.as_completed": "asyncio.as_completed",
    "asyncio.unix_events.can_use_pidfd": "os.pidfd_open",
    "asyncio.unix_events._UnixSelectorEventLoop": "asyncio.SelectorEventLoop",
    "asyncio.unix_events._UnixDefaultEventLoopPolicy._loop_factory": (
        "asyncio.get_event_loop_policy"
    ),
    "asyncio.unix_events._DefaultEventLoopPolicy._loop_factory": "asyncio.get_event_loop_policy",
    "concurrent.futures.thread.ThreadPoolExecutor.submit": "concurrent.futures.ThreadPoolExecutor",
    "concurrent.futures.process.ProcessPoolExecutor.__init__": (
        "concurrent.futures.ProcessPoolExecutor"
    ),
    "multiprocessing.connection._ConnectionBase.__init__": "multiprocessing.Pool",
    "multiprocessing.process.BaseProcess.start": "multiprocessing.Process",
    "multiprocessing.synchronize.SemLock.__init__": "multiprocessing.Lock",
    "multiprocessing.connection.Pipe": "multiprocessing.Pipe",
    "multiprocessing.connection.SocketClient": "multiprocessing.connection.Client",
    "multiprocessing.connection.Listener.__init__": "multiprocessing.connection.Listener",
    "subprocess.Popen.__init__": "subprocess.Popen",
}


@pytest.mark.subprocess
def test_the_page_is_made_of_the_data() -> None:
    tool = ROOT / "tools" / "write_sim_boundary.py"
    assert subprocess.run([sys.executable, tool, "--check"], check=False).returncode == 0
