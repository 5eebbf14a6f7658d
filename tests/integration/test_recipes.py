"""The commands and files of docs/how-to/recipes.md, and the loop that runs then."""

import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from .children import ATTEMPTS, NO_PRELOAD, Child, reply_from
from .test_run_servers import OURS

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "recipes.md"
BLOCK = re.compile(r'^```(python|sh)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
PORTS = ("8000", "8786", "6379")
"""The page's ports, for which free ones stand here."""

NEEDS = {"taskiq": "redis", "ray": "ray"}
LOOPS = {"dask": 3, "ray": 2}
"""How many processes report their loop; elsewhere it is one."""


class Recipe(NamedTuple):
    """A block of commands, and the files of its section and of the page's opening."""

    section: str
    commands: list[str]
    files: dict[str, str]


def recipes() -> dict[str, Recipe]:
    opening, *sections = PAGE.read_text(encoding="utf-8").split("\n## ")
    shared = {name: text for _, name, text in BLOCK.findall(opening)}
    found: dict[str, Recipe] = {}
    for section in sections:
        title = section.partition("\n")[0].lower()
        blocks = BLOCK.findall(section)
        files = shared | {name: text for kind, name, text in blocks if kind == "python"}
        commands = [text.splitlines() for kind, _, text in blocks if kind == "sh"]
        for number, lines in enumerate(commands, 1):
            found[f"{title} {number}"] = Recipe(title, lines, files)
    return found


RECIPES = recipes()


def test_each_section_has_a_command() -> None:
    titles = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {recipe.section for recipe in RECIPES.values()} == {title.lower() for title in titles}
    assert len(titles) > 10


def skip_what_is_missing(section: str) -> None:
    need = NEEDS.get(section)
    if need == "redis" and shutil.which("redis-server") is None:
        pytest.skip("skips.toml: asyncpg and redis-py without their servers")
    if need == "ray" and find_spec("ray") is None:
        pytest.skip("skips.toml: recipes that do not install")
    if need == "ray" and os.environ.get("AIOPOLL_SANITIZED"):
        pytest.skip("skips.toml: Ray under AddressSanitizer")


def free_ports() -> dict[str, str]:
    """The page's ports, and such that were free just now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return dict(zip(PORTS, ports, strict=True))


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The variables of a user with nothing but the folder of the test."""
    with tempfile.TemporaryDirectory(prefix="r") as short:  # Ray's sockets have long names
        yield {
            "HOME": str(tmp_path),
            "IPYTHONDIR": str(tmp_path / "ipython"),
            "JUPYTER_DATA_DIR": str(tmp_path / "jupyter"),
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "PYTEST_ADDOPTS": "-p no:cacheprovider",
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])
            ),
            "RAY_AUTH_MODE": "disabled",  # it would write a token to the home directory
            "RAY_TMPDIR": short,
            "RAY_USAGE_STATS_ENABLED": "0",
        }


def run_recipe(recipe: Recipe, run: Callable[[str], Child], ports: dict[str, str]) -> list[str]:
    """Runs the commands of a recipe; the loops that its last one reports."""
    for command in recipe.commands:
        child = run(command.removesuffix("&").strip())
        if command.endswith("&"):
            continue
        named = [text for file, text in recipe.files.items() if file in command]
        if any("8000" in text for text in [command, *named]):
            return [reply_from(ports["8000"], child)]
        assert child.finish() == 0, child.output
    return re.findall(r"[\w.]+\.(?:EventLoop|Loop|_UnixSelectorEventLoop)\b", child.output)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_on_our_loop(
    name: str, start: Callable[..., Child], environment: dict[str, str], tmp_path: Path
) -> None:
    recipe = RECIPES[name]
    skip_what_is_missing(recipe.section)
    for attempt in range(1, ATTEMPTS + 1):
        ports = free_ports()
        children: list[Child] = []

        def here(text: str, ports: dict[str, str] = ports) -> str:
            return re.sub("|".join(PORTS), lambda port: ports[port[0]], text)

        def run(command: str, children: list[Child] = children) -> Child:
            preload = NO_PRELOAD if command.startswith("redis-server") else {}
            shell = ["sh", "-c", f"exec {here(command)}"]
            children.append(start(shell, environment | preload, cwd=tmp_path))
            return children[-1]

        for file, text in recipe.files.items():
            (tmp_path / file).write_text(here(text), encoding="utf-8")
        try:
            loops = run_recipe(recipe, run, ports)
            break
        except AssertionError:
            taken = any("in use" in child.output for child in children)  # by another test
            if attempt == ATTEMPTS or not taken:
                raise
    assert loops == [OURS] * LOOPS.get(recipe.section, 1), children[-1].output
    for child in children:
        assert "aiopoll run: another loop" not in child.output
