"""install() and alias_uvloop(): programs that name a policy, or uvloop, get this loop."""

import asyncio
import subprocess
import sys
import types
from pathlib import Path

import pytest

import aiopoll
from aiopoll.loop import policy

SHOW = """
import asyncio, aiopoll

async def main():
    return type(asyncio.get_running_loop()) is aiopoll.EventLoop
"""

PROGRAMS = {
    "install": SHOW + "aiopoll.install(); print(asyncio.run(main()))",
    "new_event_loop": SHOW
    + """
aiopoll.install()
loop = asyncio.new_event_loop()
print(loop.run_until_complete(main()))
loop.close()
""",
    "other threads": SHOW
    + """
import threading
aiopoll.install()
thread = threading.Thread(target=lambda: print(asyncio.run(main())))
thread.start()
thread.join()
""",
    "policy": SHOW
    + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
asyncio.set_event_loop_policy(aiopoll.EventLoopPolicy())
print(asyncio.run(main()))
""",
    "uvloop.install": SHOW
    + """
aiopoll.alias_uvloop()
import uvloop
uvloop.install()
print(asyncio.run(main()))
""",
    "uvloop.run": SHOW
    + """
aiopoll.alias_uvloop()
import uvloop
print(uvloop.run(main(), debug=True))
""",
    "uvloop.run with a factory": SHOW
    + """
aiopoll.alias_uvloop()
import uvloop
print(uvloop.run(main(), loop_factory=uvloop.Loop))
""",
    "uvloop.run of an awaitable": SHOW
    + """
class Main:
    def __await__(self):
        return main().__await__()

aiopoll.alias_uvloop()
import uvloop
print(uvloop.run(Main()))
""",
    "Runner": SHOW
    + """
aiopoll.alias_uvloop()
import uvloop
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    print(runner.run(main()) and isinstance(runner.get_loop(), uvloop.Loop))
""",
    "uvloop's policy": SHOW
    + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
aiopoll.alias_uvloop()
import uvloop
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
print(asyncio.run(main()))
""",
    "who looks before": SHOW
    + """
import importlib.util
aiopoll.alias_uvloop()
spec = importlib.util.find_spec("uvloop")
from uvloop import *
print(spec.name == "uvloop" and run is not None and Loop is aiopoll.EventLoop)
""",
    "run by our command": "import uvloop, aiopoll; print(uvloop.Loop is aiopoll.EventLoop)",
}


@pytest.mark.subprocess
@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_get_this_loop(program: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAMS[program], encoding="utf-8")
    command = ["-m", "aiopoll", "run", "--alias-uvloop"] if "command" in program else []
    done = subprocess.run(
        [sys.executable, "-W", "error", *command, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "True\n", done.stderr
    assert done.stderr == ""


def test_the_alias_has_uvloops_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "uvloop", raising=False)
    try:
        module = aiopoll.alias_uvloop()
        assert sys.modules["uvloop"] is module
        assert aiopoll.alias_uvloop() is module
        assert module.__version__.split(".")[0].isdigit()
        assert module.new_event_loop is aiopoll.new_event_loop
    finally:
        sys.modules.pop("uvloop", None)


def test_a_real_uvloop_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    real = types.ModuleType("uvloop")
    real.__file__ = "elsewhere/uvloop.py"
    monkeypatch.setitem(sys.modules, "uvloop", real)
    with pytest.raises(RuntimeError, match=r"already, from elsewhere/uvloop\.py"):
        aiopoll.alias_uvloop()
    assert sys.modules["uvloop"] is real


def test_without_policies_install_replaces_the_factory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "_PolicyBase", object)
    monkeypatch.setattr(asyncio, "new_event_loop", asyncio.new_event_loop)
    monkeypatch.setattr(asyncio.events, "new_event_loop", asyncio.events.new_event_loop)
    with pytest.raises(RuntimeError, match=r"loop_factory=aiopoll\.new_event_loop"):
        aiopoll.EventLoopPolicy()
    aiopoll.install()
    with asyncio.Runner() as runner:
        assert isinstance(runner.get_loop(), aiopoll.EventLoop)
