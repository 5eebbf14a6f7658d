"""Traces of whole programs: `aiopoll run --trace`, variables, exits, forks, threads, signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.trace_events import named, read

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]

HEAD = """
import asyncio, os, signal, subprocess, sys, threading, time
import aiopoll

async def work():
    await asyncio.sleep(0.001)

"""
LIMIT = 60


def run(
    program: str, folder: Path, *options: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the program in the folder, by the command if there are options for it."""
    (folder / "program.py").write_text(HEAD + program)
    command = ["-m", "aiopoll", "run", *options] if options else []
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", *command, "program.py"],
        cwd=folder,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


def traces(folder: Path) -> dict[str, dict[str, Any]]:
    """The files of the folder, each of them right."""
    assert not list(folder.glob(".*.tmp"))
    return {path.name: read(path) for path in folder.glob("*.json")}


ENDS = {
    "return": ("asyncio.run(work())", 0),
    "exception": ("asyncio.run(work()); 1 / 0", 1),
    "sys.exit": ("asyncio.run(work()); sys.exit(3)", 3),
    "in a callback": (
        "loop = asyncio.new_event_loop()\n"
        "loop.create_task(work())\n"
        "loop.call_later(0.05, sys.exit, 4)\n"
        "loop.run_forever()",
        4,
    ),
    "never closed": (
        "loop = aiopoll.new_event_loop()\nloop.run_until_complete(work())\nos.loop = loop",
        0,
    ),
    "Ctrl-C": (
        "async def main():\n"
        "    await asyncio.create_task(work())\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    await asyncio.sleep(10)\n"
        "asyncio.run(main())",
        -signal.SIGINT,
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_every_end_of_a_program_writes_the_file(end: str, tmp_path: Path) -> None:
    program, status = ENDS[end]
    done = run(program, tmp_path, "--trace", "out.json")
    assert done.returncode in (status, 130 if status < 0 else status), done.stderr
    files = traces(tmp_path)
    assert list(files) == ["out.json"]
    assert len(named(files["out.json"], "work")) == 2
    assert files["out.json"]["otherData"]["program"].endswith("program.py")


def test_the_variable_traces_without_the_command(tmp_path: Path) -> None:
    done = run("aiopoll.run(work())", tmp_path, env={"AIOPOLL_TRACE": "out-%p.json"})
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    ((name, document),) = traces(tmp_path).items()
    assert name == f"out-{document['otherData']['pid']}.json"
    assert len(named(document, "work")) == 2


def test_a_loop_may_stay_out_of_it(tmp_path: Path) -> None:
    program = "aiopoll.run(work(), trace=False)"
    assert run(program, tmp_path, env={"AIOPOLL_TRACE": "out.json"}).stderr == ""
    assert traces(tmp_path) == {}


def test_loops_one_after_the_other_share_a_track(tmp_path: Path) -> None:
    run("for _ in range(50): asyncio.run(work())", tmp_path, "--trace", "out.json")
    document = traces(tmp_path)["out.json"]
    assert len(named(document, "work")) == 100
    assert len({event["tid"] for event in named(document, "work")}) == 1


def test_threads_have_a_track_each(tmp_path: Path) -> None:
    program = """
barrier = threading.Barrier(2)

def body():
    async def main():
        await asyncio.to_thread(barrier.wait)
        await work()
    asyncio.run(main())

threads = [threading.Thread(target=body, name=f"loop {i}") for i in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
asyncio.run(work())
"""
    done = run(program, tmp_path, "--trace", "out.json")
    assert done.stderr == ""
    document = traces(tmp_path)["out.json"]
    steps = named(document, "body.<locals>.main")
    names = {event["tid"]: event["args"]["name"] for event in named(document, "thread_name")}
    assert {names[step["tid"]].partition(" (")[0] for step in steps} == {"loop 0", "loop 1"}
    assert len({step["tid"] for step in named(document, "work")} | set(names)) >= 3


def test_many_threads_keep_a_bound(tmp_path: Path) -> None:
    program = """
for i in range(20):
    thread = threading.Thread(target=asyncio.run, args=(work(), ))
    thread.start()
    thread.join()
"""
    done = run(program, tmp_path, "--trace", "out.json")
    assert done.stderr == ""
    document = traces(tmp_path)["out.json"]
    assert document["otherData"]["threads_lost"] + len(named(document, "thread_name")) >= 8
    assert len({event["tid"] for event in named(document, "work")}) <= 8


# Other processes


CHILDREN = {
    "fork": "pid = os.fork()\n"
    "if not pid:\n"
    "    asyncio.run(child())\n"
    "    sys.exit()\n"
    "os.waitpid(pid, 0)",
    "subprocess": "subprocess.run([sys.executable, 'child.py'], check=True)",
    "multiprocessing fork": "multiprocess('fork')",
    "multiprocessing spawn": "multiprocess('spawn')",
    "multiprocessing forkserver": "multiprocess('forkserver')",
}
CHILD = """
import asyncio

async def child():
    await asyncio.sleep(0.001)

def main():
    asyncio.run(child())

if __name__ == "__main__":
    main()
"""
MULTIPROCESS = """
from child import child, main

def multiprocess(method):
    import multiprocessing
    process = multiprocessing.get_context(method).Process(target=main)
    process.start()
    process.join()
    assert process.exitcode == 0

if __name__ == "__main__":
    asyncio.run(work())
"""


@pytest.mark.parametrize("kind", CHILDREN)
@pytest.mark.parametrize("given", ["out.json", "out.%p.json"])
def test_a_child_writes_a_file_of_its_own(kind: str, given: str, tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(CHILD)
    start = "".join(f"    {line}\n" for line in CHILDREN[kind].splitlines())
    done = run(MULTIPROCESS + start + "    asyncio.run(work())", tmp_path, "--trace", given)
    assert (done.stderr, done.returncode) == ("", 0)
    files = traces(tmp_path)
    assert len(files) == 2
    by_pid = {document["otherData"]["pid"]: name for name, document in files.items()}
    parents = {name for name, document in files.items() if named(document, "work")}
    children = {name for name, document in files.items() if named(document, "child")}
    assert (len(parents), len(children), parents & children) == (1, 1, set())
    assert len(named(files[parents.pop()], "work")) == 4
    for pid, name in by_pid.items():
        assert name in (f"out.{pid}.json", given)


def test_a_child_without_a_loop_writes_nothing(tmp_path: Path) -> None:
    program = """
loop = aiopoll.new_event_loop()
loop.start_trace("own.json")
loop.run_until_complete(work())
pid = os.fork()
if not pid:
    loop.close()
    sys.exit()
os.waitpid(pid, 0)
assert os.listdir() == ["program.py"]
loop.run_until_complete(work())
loop.close()
"""
    done = run(program, tmp_path, env={"AIOPOLL_TRACE": "out.json"})
    assert (done.stderr, done.returncode) == ("", 0)
    files = traces(tmp_path)
    assert set(files) == {"own.json", "out.json"}
    assert len(named(files["own.json"], "work")) == 4
    assert not named(files["out.json"], "work")


def test_a_process_that_is_ended_hard_writes_nothing(tmp_path: Path) -> None:
    done = run("asyncio.run(work()); os._exit(0)", tmp_path, "--trace", "out.json")
    assert done.returncode == 0
    assert traces(tmp_path) == {}


# Signals


SIGNALLED = """
async def main():
    await work()
    os.kill(os.getpid(), signal.SIG{signal})
    while not os.path.exists({first!r}):
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIG{signal})
    while not os.path.exists({second!r}):
        await asyncio.sleep(0.01)
    print("goes on")

asyncio.run(main())
"""


def test_a_signal_writes_while_the_program_goes_on(tmp_path: Path) -> None:
    program = SIGNALLED.format(signal="USR2", first="out.1.json", second="out.2.json")
    done = run(program, tmp_path, "--trace", "out.json", "--trace-signal", "USR2")
    assert (done.stdout, done.stderr) == ("goes on\n", "")
    files = traces(tmp_path)
    assert set(files) == {"out.json", "out.1.json", "out.2.json"}
    for document in files.values():
        assert len(named(document, "main")) >= 1
    assert files["out.1.json"]["otherData"]["seconds"] == 10
    assert files["out.json"]["otherData"]["seconds"] is None


def test_only_a_signal_needs_no_path(tmp_path: Path) -> None:
    program = SIGNALLED.format(signal="USR1", first="?", second="?").replace(
        "'?'", "f'aiopoll-{os.getpid()}.trace.1.json'", 1
    )
    program = program.replace("'?'", "f'aiopoll-{os.getpid()}.trace.2.json'")
    env = {"AIOPOLL_TRACE_SIGNAL": "SIGUSR1", "AIOPOLL_TRACE_LAST": "2.5"}
    done = run(program.replace("asyncio.run", "aiopoll.run"), tmp_path, env=env)
    assert (done.stdout, done.stderr) == ("goes on\n", "")
    files = traces(tmp_path)
    assert len(files) == 2
    assert {document["otherData"]["seconds"] for document in files.values()} == {2.5}


def test_a_loop_that_hangs_is_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        HEAD + "async def main():\n"
        "    print('now', flush=True)\n"
        "    time.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    options = ["--trace", "out.json", "--trace-signal", "USR2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "aiopoll", "run", *options, "program.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGUSR2)
        end = time.monotonic() + LIMIT
        while not (tmp_path / "out.1.json").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()
    (step,) = named(read(tmp_path / "out.1.json"), "main")
    assert step["args"]["unfinished"] is True
    assert step["args"]["source"].endswith("program.py:8")


def test_a_signal_at_the_end_is_written(tmp_path: Path) -> None:
    program = "asyncio.run(work())\nos.kill(os.getpid(), signal.SIGUSR2)\ntime.sleep(0)\n"
    done = run(program, tmp_path, "--trace", "out.json", "--trace-signal", "12")
    assert (done.stderr, done.returncode) == ("", 0)
    assert set(traces(tmp_path)) == {"out.json", "out.1.json"}


# Errors


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--trace", "missing/out.json"], "No such file or directory: '{folder}/missing'"),
        (["--trace", "program.py/out.json"], "Not a directory: '{folder}/program.py'"),
        (["--trace-signal", "USR9"], "AIOPOLL_TRACE_SIGNAL: there is no signal 'USR9'"),
        (["--trace", "x", "--trace-last", "-1"], "AIOPOLL_TRACE_LAST must be a number above 0"),
    ],
)
def test_what_is_wrong_is_refused_at_once(options: list[str], text: str, tmp_path: Path) -> None:
    done = run("print('runs')", tmp_path, *options)
    assert (done.stdout, done.returncode) == ("", 2)
    assert done.stderr.startswith("aiopoll run: no trace: ")
    assert text.format(folder=tmp_path) in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_wrong_variable_is_one_line_and_no_trace(tmp_path: Path) -> None:
    program = "aiopoll.run(work())\naiopoll.run(work())\nprint('runs')"
    done = run(program, tmp_path, env={"AIOPOLL_TRACE": "missing/out.json"})
    assert (done.stdout, done.returncode) == ("runs\n", 0)
    assert done.stderr == (
        f"aiopoll: no trace: [Errno 2] No such file or directory: '{tmp_path}/missing'\n"
    )


def test_a_folder_that_is_gone_at_exit_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    program = "asyncio.run(work())\nos.rmdir('folder')\nprint('runs')"
    done = run(program, tmp_path, "--trace", "folder/out.json")
    assert (done.stdout, done.returncode) == ("runs\n", 0)
    assert done.stderr == (
        "aiopoll: [Errno 2] cannot write the trace: No such file or directory:"
        f" '{tmp_path}/folder/out.json'\n"
    )


def test_the_program_sees_its_own_signals(tmp_path: Path) -> None:
    program = """
seen = []
signal.signal(signal.SIGUSR2, lambda *_: seen.append(1))
asyncio.run(work())
os.kill(os.getpid(), signal.SIGUSR2)
print(seen)
"""
    done = run(program, tmp_path, "--trace", "out.json", "--trace-signal", "USR2")
    assert (done.stdout, done.stderr) == ("[1]\n", "")
    assert set(traces(tmp_path)) == {"out.json"}
