"""What loops say on stderr while they are looked into, where that is closed, missing or odd."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from tests.support.loops import CHILD_SECONDS_MAX

pytestmark = pytest.mark.subprocess


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the code; no monitor can have its socket in the folder: it is open to others."""
    shut = folder / "aiopoll"
    shut.mkdir()
    shut.chmod(0o777)
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS_MAX,
    )


def test_a_closed_stderr_keeps_no_loop_from_being_made(tmp_path: Path) -> None:
    code = """
        import sys, aiopoll
        sys.stderr.close()
        aiopoll.EventLoop(monitor=True).close()
    """
    assert run(code, tmp_path).returncode == 0


def test_stdout_is_not_taken_for_a_missing_stderr(tmp_path: Path) -> None:
    code = """
        import sys, aiopoll
        sys.stderr = None
        aiopoll.EventLoop(monitor=True).close()
        print("end")
    """
    assert run(code, tmp_path).stdout == "end\n"


def test_dumps_go_on_after_one_that_failed(tmp_path: Path) -> None:
    code = f"""
        import os, sys, types, aiopoll
        loop = aiopoll.EventLoop(dump_signal={int(signal.SIGUSR1)})
        before, sys.stderr = sys.stderr, types.SimpleNamespace(encoding="odd", flush=print)
        os.kill(os.getpid(), {int(signal.SIGUSR1)})
        sys.stdin.readline()
        os.kill(os.getpid(), {int(signal.SIGUSR1)})
        sys.stdin.readline()
        os._exit(0)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stderr is not None
    timer = threading.Timer(CHILD_SECONDS_MAX, child.kill)
    timer.start()
    with child:
        try:
            for _ in range(2):
                while line := child.stderr.readline():
                    if line.strip().startswith("backend="):
                        break
                assert line
                child.stdin.write("\n")
                child.stdin.flush()
            assert child.wait(CHILD_SECONDS_MAX) == 0
        finally:
            timer.cancel()
            child.kill()


def test_another_file_of_its_number_is_not_stderr(tmp_path: Path) -> None:
    code = f"""
        import os, sys, aiopoll
        from aiopoll.loop.monitor.stderr import write_descriptor
        os.close(2)
        file = open({str(tmp_path / "data")!r}, "w")
        assert file.fileno() == 2
        write_descriptor("a dump")
    """
    assert run(code, tmp_path).returncode == 0
    assert (tmp_path / "data").read_text() == ""
