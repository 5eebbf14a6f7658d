"""A simulated test by its name, "path/to/file.py::test_name", without pytest.

Rule: a file of a package is imported by its dotted name, with the folder above the package on
sys.path; another by its stem, with its own folder. The working directory is on sys.path too.

Left out: what only pytest can give: fixtures, parameters, classes. `NeedsPytest` names them.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

from .testing import Options, SimTest


class LoadError(Exception):
    """There is no such file or test, and why."""


class NeedsPytest(LoadError):
    """The test cannot run without pytest: it has fixtures, parameters or a class."""


def load_test(name: str) -> SimTest:
    """Return the test that `name` names; a coroutine function that takes a world is one too.

    LoadError if there is none; NeedsPytest if only pytest can run it. What the file raises.
    """
    path, separator, attribute = name.partition("::")
    if not separator or not attribute:
        raise LoadError(f"{name!r} names no test: give PATH.py::NAME")
    if not Path(path).is_file():
        raise LoadError(f"there is no file {path!r} here")
    if "::" in attribute or "[" in attribute:
        raise NeedsPytest(f"{attribute!r} is in a class, or has parameters")
    module = _import(Path(path).resolve())
    function = getattr(module, attribute, None)
    if function is None:
        raise LoadError(f"{path} has no {attribute!r}")
    test = getattr(function, "sim_test", None)
    if not isinstance(test, SimTest):
        if not inspect.iscoroutinefunction(function):
            raise LoadError(f"{attribute!r} of {path} is no simulated test")
        test = SimTest(function, Options())
    parameters = list(inspect.signature(test.program).parameters)
    if len(parameters) > 1:
        raise NeedsPytest(f"{attribute!r} has fixtures: {', '.join(parameters[1:])}")
    return test


def _import(path: Path) -> object:
    parts = [path.stem]
    folder = path.parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    for entry in (str(folder), str(Path.cwd())):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    return importlib.import_module(".".join(parts))
