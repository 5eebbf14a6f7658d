"""`aiopoll run` in the processes that a program starts, and in none that the user keeps apart."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]

OURS = "aiopoll.loop.event_loop.EventLoop"
ASYNCIOS = "asyncio.unix_events._UnixSelectorEventLoop"

WHICH = """
import asyncio

def which():
    async def main():
        cls = type(asyncio.get_running_loop())
        return f"{cls.__module__}.{cls.__qualname__}"
    return asyncio.run(main())
"""
SHOW = WHICH + "print(which())\n"


def run(
    program: str,
    tmp_path: Path,
    *options: str,
    env: dict[str, str] | None = None,
    aio: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Runs the program as `aiopoll run` does, or as python does; its children find `show.py`."""
    (tmp_path / "program.py").write_text(program)
    (tmp_path / "which.py").write_text(WHICH)
    (tmp_path / "show.py").write_text(SHOW)
    launcher = [sys.executable, "-W", "error", *(["-m", "aiopoll", "run"] if aio else [])]
    return subprocess.run(
        [*launcher, *options, "program.py"],
        cwd=tmp_path,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
    )


POOL = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from which import which

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        print(pool.submit(which).result())
    with context.Pool(1) as pool:
        print(pool.apply(which))
    print(which())
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_processes_of_multiprocessing_run_our_loop(method: str, tmp_path: Path) -> None:
    done = run(POOL.format(method=method), tmp_path)
    assert done.stdout.split() == [OURS] * 3, done.stderr
    assert done.stderr == ""


COMMANDS = {
    "-c": "subprocess.run([sys.executable, '-c', 'import show'])",
    "-m": "subprocess.run([sys.executable, '-m', 'show'])",
    "file": "subprocess.run([sys.executable, 'show.py'])",
    "optimized": "subprocess.run([sys.executable, '-O', '-s', '-P', 'show.py'])",
    "shell": "os.system(sys.executable + ' show.py')",
    "exec": "os.execv(sys.executable, [sys.executable, 'show.py'])",
    "posix_spawn": "os.waitpid(os.posix_spawn(sys.executable, [sys.executable, 'show.py'],"
    " os.environ), 0)",
    "grandchild": "subprocess.run([sys.executable, '-c', 'import subprocess, sys;"
    ' subprocess.run([sys.executable, "show.py"])\'])',
    "aiopoll run": "subprocess.run([sys.executable, '-m', 'aiopoll', 'run', 'show.py'])",
    "our loop first": "subprocess.run([sys.executable, '-c', 'from aiopoll.loop import run;"
    " import asyncio, uvicorn.loops.auto as auto; import show;"
    " assert auto.auto_loop_factory() is asyncio.SelectorEventLoop'])",
    "our streams first": "subprocess.run([sys.executable, '-c', 'import aiopoll.streams, show'])",
    "our files first": "subprocess.run([sys.executable, '-c', 'import aiopoll.files, show'])",
    "asyncio": "asyncio.run(asyncio.wait_for(start(), 60))",
}
START = """
import asyncio, os, subprocess, sys

async def start():
    process = await asyncio.create_subprocess_exec(sys.executable, "show.py")
    assert await process.wait() == 0

"""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_python_that_the_program_starts_runs_our_loop(command: str, tmp_path: Path) -> None:
    done = run(START + COMMANDS[command], tmp_path)
    assert (done.stdout, done.stderr) == (OURS + "\n", "")


APART = {
    "-I": "[sys.executable, '-I', 'show.py']",
    "-E": "[sys.executable, '-E', 'show.py']",
    "-S": "[sys.executable, '-S', 'show.py']",
    "no environment": "[sys.executable, 'show.py'], env={}",
    "switched off": "[sys.executable, 'show.py'], env={**os.environ, 'AIOPOLL_RUN': ''}",
    "another path": "[sys.executable, 'show.py'], env={**os.environ, 'PYTHONPATH': ''}",
}


@pytest.mark.parametrize("command", APART)
def test_a_python_that_is_kept_apart_is_left_alone(command: str, tmp_path: Path) -> None:
    done = run(START + f"subprocess.run({APART[command]})", tmp_path)
    assert (done.stdout, done.stderr) == (ASYNCIOS + "\n", "")


def test_alias_uvloop_reaches_them(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(
        "import importlib.util\n"
        "import sys\n"
        "assert 'asyncio' not in sys.modules\n"
        "assert importlib.util.find_spec('uvloop').name == 'uvloop'\n"
        "import uvloop, aiopoll\n"
        "print(uvloop.Loop is aiopoll.EventLoop)\n"
    )
    done = run(START + "subprocess.run([sys.executable, 'child.py'])", tmp_path, "--alias-uvloop")
    assert (done.stdout, done.stderr) == ("True\n", "")


SEES = """
import sys
print(sys.path)
print("sitecustomize" in sys.modules, getattr(sys.modules.get("sitecustomize"), "NAME", None))
"""
OWN = "import sys\nNAME = 'own'\nprint('own', __name__, __file__)\n"


@pytest.mark.parametrize("site", [None, OWN, "1 / 0", "raise SystemExit(3)", "import not_there"])
def test_a_sitecustomize_of_the_program_is_imported(site: str | None, tmp_path: Path) -> None:
    path = tmp_path / "site"
    path.mkdir()
    if site is not None:
        (path / "sitecustomize.py").write_text(site)
    (tmp_path / "sees.py").write_text(SEES)
    program = (
        f"import os, subprocess, sys\nhere = os.environ.get('PYTHONPATH')\n"
        f"path = {str(path)!r} if here is None else os.pathsep.join([here, {str(path)!r}])\n"
        "sys.exit(subprocess.run([sys.executable, 'sees.py'],"
        " env={**os.environ, 'PYTHONPATH': path}).returncode)"
    )
    ours, theirs = run(program, tmp_path), run(program, tmp_path, aio=False)
    assert ours.stdout == theirs.stdout
    assert ours.stderr.splitlines()[-2:] == theirs.stderr.splitlines()[-2:]
    assert ours.returncode == theirs.returncode


def test_a_child_without_asyncio_loads_nothing_of_ours(tmp_path: Path) -> None:
    child = (
        "import sys; print([name for name in sys.modules"
        " if name.split('.')[0] in ('aiopoll', 'asyncio', 'sitecustomize')])"
    )
    program = START + f"subprocess.run([sys.executable, '-c', {child!r}])"
    done, theirs = run(program, tmp_path), run(program, tmp_path, aio=False)
    # A machine may have a sitecustomize of its own.
    assert theirs.stdout in ("[]\n", "['sitecustomize']\n")
    assert (done.stdout, done.stderr) == (theirs.stdout, "")


def test_resource_trackers_are_unharmed(tmp_path: Path) -> None:
    program = (
        "from multiprocessing import resource_tracker, shared_memory\n"
        "memory = shared_memory.SharedMemory(create=True, size=64)\n"
        "pid = resource_tracker._resource_tracker._pid\n"
        "with open(f'/proc/{pid}/maps') as maps:\n"
        "    print('aiopoll' in maps.read())\n"
        "memory.close()\n"
        "memory.unlink()\n"
    )
    done = run(program, tmp_path)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_modules_look_as_they_do_without_us(tmp_path: Path) -> None:
    child = (
        "import asyncio, importlib, inspect\n"
        "print(asyncio.__loader__, asyncio.__spec__.loader is asyncio.__loader__)\n"
        "print(len(inspect.getsource(asyncio)), importlib.reload(asyncio) is asyncio)\n"
    ).replace("print(asyncio.__loader__,", "print(type(asyncio.__loader__),")
    program = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])"
    ours, theirs = run(program, tmp_path), run(program, tmp_path, aio=False)
    assert (ours.stdout, ours.stderr) == (theirs.stdout, theirs.stderr)


@pytest.mark.parametrize(("child", "reported"), [("show", True), ("asyncio", False)])
def test_a_python_without_aiopoll_is_reported(child: str, reported: bool, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import sys\nsys.modules['aiopoll'] = None")
    program = (
        f"path = os.environ['PYTHONPATH'] + os.pathsep + {str(tmp_path / 'site')!r}\n"
        f"subprocess.run([sys.executable, '-c', 'import {child}'],"
        " env={**os.environ, 'PYTHONPATH': path})"
    )
    done = run(START + program, tmp_path)
    line = f"aiopoll run: the event loops of {sys.executable} are not aiopoll's: "
    assert done.returncode == 0
    assert done.stdout == (ASYNCIOS + "\n" if reported else "")
    assert done.stderr.startswith(line if reported else "")
    assert done.stderr.count("\n") == reported


def test_a_path_of_the_program_may_come_before_ours(tmp_path: Path) -> None:
    program = (
        "os.environ['PYTHONPATH'] = os.pathsep.join(['before', os.environ['PYTHONPATH']])\n"
        "subprocess.run([sys.executable, 'show.py'])"
    )
    done = run(START + program, tmp_path)
    assert (done.stdout, done.stderr) == (OURS + "\n", "")


HALF_MADE = """
import asyncio

class loops:
    _data = {"auto": "what takes uvloop", "asyncio": "asyncio's"}
"""


def test_a_module_that_imports_asyncio_first_is_corrected(tmp_path: Path) -> None:
    """The loops are taken over while it is half-made."""
    (tmp_path / "granian").mkdir()
    (tmp_path / "granian" / "__init__.py").touch()
    (tmp_path / "granian" / "_loops.py").write_text(HALF_MADE)
    child = "import granian._loops; print(granian._loops.loops._data['auto'])"
    done = run(START + f"subprocess.run([sys.executable, '-c', {child!r}])", tmp_path)
    assert (done.stdout, done.stderr) == ("asyncio's\n", "")
