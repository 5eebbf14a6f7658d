"""Objects that __new__ alone has made: every call raises, and none ends the process.

They come from a subclass that forgets super().__init__(), a copy, a mock, a debugger.
"""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import aiopoll

from . import uninitialised_child as child

MODULES = [name for name in child.modules() if child.classes_of(importlib.import_module(name))]


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize("module", MODULES)
def test_calls_of_empty_objects_raise(module: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(child.__file__)), module],
        cwd=tmp_path,  # a call with a path may bind a socket there
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=2 * child.SECONDS_MAX,
        check=False,
    )
    lines = result.stderr.decode(errors="replace").splitlines()
    assert (result.returncode, lines[-1:]) == (0, ["end"]), "\n".join(lines[-40:])
    assert [line for line in lines if line.startswith("cannot be made")] == []
    kinds = child.classes_of(importlib.import_module(module))
    assert {f"class {kind.__qualname__}" for kind in kinds} <= set(lines)


def test_the_descriptor_of_a_file_that_has_none() -> None:
    """-1 was returned as a number, and taken for an exception that was never raised."""
    file = aiopoll.BinaryFile.__new__(aiopoll.BinaryFile)
    with pytest.raises(OSError, match="Bad file descriptor"):
        file._enter()


def test_all_compiled_classes_are_found() -> None:
    """By the attribute that Cython puts into a class with C methods."""
    found = child.everything()
    names = {kind.__name__ for kind in found}
    assert {"Context", "Stream", "LoopCore", "Window", "EventLoop", "BinaryFile"} <= names
    for module in list(sys.modules.values()):
        name = getattr(module, "__name__", "") or ""
        if name.startswith("aiopoll.") and name != "aiopoll._cyutility":  # Cython's own classes
            for kind in vars(module).values():
                if isinstance(kind, type) and "__pyx_vtable__" in vars(kind):
                    assert kind in found


def test_private_and_inherited_methods_are_called() -> None:
    """The child must not call fewer methods over time."""
    names = set(child.names_of(aiopoll.EventLoop))
    assert {"_run_once", "_call_soon", "_open_reactor", "call_at", "__repr__"} <= names
    assert {"_enter", "_close", "loop", "__del__"} <= set(child.names_of(aiopoll.BinaryFile))
