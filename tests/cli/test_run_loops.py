"""The loops of a program under `aiopoll run`: ours, or one line that names the other."""

import os
import socket
import subprocess
import sys
from asyncio.unix_events import _UnixDefaultEventLoopPolicy  # type: ignore[attr-defined]
from pathlib import Path

import pytest

pytestmark = pytest.mark.subprocess

OURS = "aiopoll.loop.event_loop.EventLoop"

START = """
import asyncio, io, selectors, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)

async def main():
    cls = type(asyncio.get_running_loop())
    print(f"{cls.__module__}.{cls.__qualname__}")

def run(loop):
    loop.run_until_complete(main())
    loop.close()

"""

WAYS = {
    "asyncio.run": "asyncio.run(main())",
    "debug": "asyncio.run(main(), debug=True)",
    "Runner": "with asyncio.Runner() as runner: runner.run(main())",
    "Runner with a class": "with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:"
    " runner.run(main())",
    "new_event_loop": "run(asyncio.new_event_loop())",
    "from asyncio import": "from asyncio import new_event_loop; run(new_event_loop())",
    "policy": "run(asyncio.get_event_loop_policy().new_event_loop())",
    "get_event_loop": "run(asyncio.get_event_loop_policy().get_event_loop())",
    "another policy": "class Policy(asyncio.DefaultEventLoopPolicy): pass\n"
    "asyncio.set_event_loop_policy(Policy())\nasyncio.run(main())",
    "SelectorEventLoop": "run(asyncio.SelectorEventLoop())",
    "our class": "import aiopoll; run(aiopoll.EventLoop())",
    "our options": "import aiopoll; aiopoll.run(main(), backend='epoll')",
    "thread": "thread = threading.Thread(target=lambda: asyncio.run(main()))\n"
    "thread.start(); thread.join()",
    "unittest": "import unittest\n"
    "class Test(unittest.IsolatedAsyncioTestCase):\n"
    "    async def test(self): await main()\n"
    "runner = unittest.TextTestRunner(stream=io.StringIO())\n"
    "assert unittest.main(exit=False, testRunner=runner).result.wasSuccessful()",
}
if not hasattr(_UnixDefaultEventLoopPolicy._Local, "_set_called"):
    del WAYS["get_event_loop"]  # from 3.14 on it makes no loop
ON_OUR_SELECTOR = {
    "class of the program": "class Loop(asyncio.SelectorEventLoop): pass\nrun(Loop())",
    "AioSelector": "import aiopoll; run(asyncio.SelectorEventLoop(aiopoll.AioSelector()))",
    "None": "run(asyncio.SelectorEventLoop(None))",
    "DefaultSelector": "run(asyncio.SelectorEventLoop(selectors.DefaultSelector()))",
    "kernel": "import aiopoll.kernel; aiopoll.kernel.run(main())",
}
UVLOOP = "import uvloop\n"
OTHERS = {
    "uvloop.run": (UVLOOP + "uvloop.run(main())", "uvloop.Loop", "--alias-uvloop"),
    "uvloop.install": (
        UVLOOP + "uvloop.install()\nasyncio.run(main())",
        "uvloop.Loop",
        "--alias-uvloop",
    ),
    "uvloop's factory": (
        UVLOOP + "with asyncio.Runner(loop_factory=uvloop.new_event_loop) as r: r.run(main())",
        "uvloop.Loop",
        "--alias-uvloop",
    ),
    "uvloop's policy": (
        UVLOOP + "asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())\nasyncio.run(main())",
        "uvloop.Loop",
        "--alias-uvloop",
    ),
    "in a thread": (
        UVLOOP + "t = threading.Thread(target=lambda: uvloop.run(main())); t.start(); t.join()",
        "uvloop.Loop",
        "--alias-uvloop",
    ),
    "a selector": (
        "run(asyncio.SelectorEventLoop(selectors.PollSelector()))",
        "asyncio.unix_events._UnixSelectorEventLoop on PollSelector",
        "without a selector",
    ),
    "a loop of the program": (
        "class Loop(asyncio.base_events.BaseEventLoop):\n"
        "    _process_events = _write_to_self = lambda self, *args: None\n"
        "    class _selector:\n"
        "        select = staticmethod(lambda timeout: ())\n"
        "run(Loop())",
        "__main__.Loop",
        "aiopoll.new_event_loop",
    ),
}


def run(program: str, tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "program.py"
    path.write_text(START + program + "\n")
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "aiopoll", "run", *options, str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_loop_that_asyncio_makes_is_ours(way: str, tmp_path: Path) -> None:
    done = run(WAYS[way], tmp_path)
    assert (done.stdout, done.stderr) == (OURS + "\n", "")


@pytest.mark.parametrize("way", ON_OUR_SELECTOR)
def test_a_loop_on_our_selector_is_not_reported(way: str, tmp_path: Path) -> None:
    done = run(ON_OUR_SELECTOR[way], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout != OURS + "\n"


@pytest.mark.parametrize("way", OTHERS)
def test_another_loop_is_named_with_its_place_and_a_fix(way: str, tmp_path: Path) -> None:
    program, name, fix = OTHERS[way]
    done = run(program, tmp_path)
    assert done.returncode == 0
    assert done.stdout == name.partition(" ")[0] + "\n"
    line = done.stderr.removesuffix("\n")
    assert "\n" not in line
    assert line.startswith(f"aiopoll run: another loop runs, {name}, from ")
    assert f"{tmp_path / 'program.py'}:" in line
    assert fix in line


@pytest.mark.parametrize(
    "program",
    [
        "import uvloop\n\n\nuvloop.run(main())  # here",
        "class Loop(asyncio.SelectorEventLoop):\n"
        "    def run_forever(self):\n"
        "        super().run_forever()\n"
        "with asyncio.Runner(loop_factory=lambda: Loop(selectors.PollSelector())) as runner:\n"
        "    runner.run(main())  # here",
    ],
    ids=["uvloop", "class of the program"],
)
def test_the_place_is_the_line_that_runs_the_loop(program: str, tmp_path: Path) -> None:
    done = run(program, tmp_path)
    lines = (tmp_path / "program.py").read_text().splitlines()
    number = 1 + next(i for i, line in enumerate(lines) if line.endswith("# here"))
    assert f"program.py:{number}:" in done.stderr


@pytest.mark.parametrize("loops", ["run() or run()", "run(); asyncio.run(main()); run()"])
def test_there_is_one_line_for_a_process(loops: str, tmp_path: Path) -> None:
    done = run(f"import uvloop\ndef run(): uvloop.run(main())\n{loops}", tmp_path)
    assert done.stderr.count("aiopoll run:") == 1
    assert done.stdout.count("uvloop.Loop") == 2


@pytest.mark.parametrize(
    "stderr",
    [
        "sys.stderr.close()",
        "sys.stderr = None",
        "sys.stderr = io.StringIO(); sys.stderr.close()",
        "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 2)",
        # Number 2 is another file's: the line must not get into it.
        "import os, atexit; os.close(2); other = open('other', 'w+b'); assert other.fileno() == 2\n"
        "atexit.register(lambda: print(os.pread(2, 99, 0)))",
    ],
)
def test_a_line_that_cannot_be_written_is_lost(stderr: str, tmp_path: Path) -> None:
    twice = "for _ in range(2): run(asyncio.SelectorEventLoop(selectors.PollSelector()))"
    done = run(f"{stderr}\n{twice}", tmp_path)
    assert done.stdout.split() == ["asyncio.unix_events._UnixSelectorEventLoop"] * 2 + (
        ["b''"] if "other" in stderr else []
    )
    assert done.returncode == 0
    assert done.stderr == ""


def test_each_child_reports_its_own(tmp_path: Path) -> None:
    child = "import uvloop, asyncio; uvloop.run(asyncio.sleep(0))"
    program = f"import subprocess\nsubprocess.run([sys.executable, '-c', {child!r}])"
    done = run(program, tmp_path)
    assert done.stderr.count("aiopoll run: another loop runs, uvloop.Loop, from <string>:1") == 1


def test_alias_uvloop_makes_them_ours(tmp_path: Path) -> None:
    for way in ("uvloop.run", "uvloop.install", "uvloop's factory"):
        done = run(OTHERS[way][0], tmp_path, "--alias-uvloop")
        assert (done.stdout, done.stderr) == (OURS + "\n", "")


ANYIO = "import anyio\nanyio.run(main, backend_options={options})"
AIOHTTP = """
from aiohttp import web

async def app():
    await main()
    asyncio.get_running_loop().call_soon(stop)
    return web.Application()

def stop():
    raise web.GracefulExit

web.run_app(app(), port=0, print=None)
"""


@pytest.mark.parametrize(
    ("program", "loop"),
    [
        (ANYIO.format(options={}), OURS),
        (ANYIO.format(options={"use_uvloop": True}), "uvloop.Loop"),
        (AIOHTTP, OURS),
    ],
    ids=["anyio", "anyio with uvloop", "aiohttp"],
)
def test_libraries_run_what_they_are_asked_for(program: str, loop: str, tmp_path: Path) -> None:
    done = run(program, tmp_path)
    assert done.stdout == loop + "\n", done.stderr
    assert done.stderr.count("\n") == (0 if loop == OURS else 1), done.stderr


def test_what_a_library_hid_is_there_again(tmp_path: Path) -> None:
    done = run(
        "from uvicorn.loops.auto import auto_loop_factory\n"
        "print(auto_loop_factory() is asyncio.SelectorEventLoop)\n"
        "print('uvloop' in sys.modules)\n"
        "import uvloop\n"
        "print(auto_loop_factory() is asyncio.SelectorEventLoop)\n"
        "print(sys.modules['uvloop'] is uvloop)\n",
        tmp_path,
    )
    assert done.stdout.split() == ["True", "False", "True", "True"], done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "words", "status"),
    [
        (["-m", "nosuch"], "No module named nosuch", 1),
        (["-m", "nosuch.sub"], "No module named 'nosuch'", 1),
        (["-m", "email.nosuch"], "No module named email.nosuch", 1),
        (["-m", "email"], "'email' is a package and cannot be directly executed", 1),
        (["nosuch.py"], "can't open 'nosuch.py': No such file or directory", 2),
        (["nosuch.zip"], "can't open 'nosuch.zip': No such file or directory", 2),
        (["folder"], "can't find '__main__' module in 'folder'", 1),
    ],
)
def test_nothing_to_run_is_one_line_and_pythons_status(
    command: list[str], words: str, status: int, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    results = [
        subprocess.run(
            [sys.executable, *launcher, *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        for launcher in (["-m", "aiopoll", "run"], [])
    ]
    assert results[0].returncode == results[1].returncode == status
    assert results[0].stderr.startswith("aiopoll run: ")
    assert words in results[0].stderr
    assert results[0].stderr.count("\n") == 1


@pytest.mark.parametrize("module", [True, False])
def test_an_import_that_fails_in_the_program_is_its_own(module: bool, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import nosuch_at_all")
    command = ["-m", "program"] if module else ["program.py"]
    done = subprocess.run(
        [sys.executable, "-m", "aiopoll", "run", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'nosuch_at_all'"


ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("example", ["site", "kv"])
def test_a_port_in_use_is_one_line_of_the_examples(example: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "aiopoll",
                "run",
                f"{ROOT}/examples/{example}.py",
                "--port",
                port,
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{example}: ")
    assert "address already in use" in done.stderr
    assert done.stderr.count("\n") == 1
