"""The signal that has the loops dumped: what is printed, whatever the loop is stuck in."""

import os
import signal
import subprocess
import sys
import tempfile

import pytest
from tests.support.loops import CHILD_SECONDS_MAX

import aiopoll
from aiopoll.loop.monitor.options import signal_of

pytestmark = pytest.mark.subprocess

PROGRAM = """if True:
    import asyncio, os, re, signal, sys, threading, time, aiopoll

    def begin():
        "Another process sends the signal: a thread might wait for the GIL."
        os.system(f"(sleep 0.2; kill -QUIT {{os.getpid()}}) &")

    def held():
        "A pipe from which bytes come late."
        ends = os.pipe()
        threading.Timer(1, lambda: os.write(ends[1], b"x")).start()
        return ends[0]

    def printed(words):
        "Whether stderr, a file, has the words by now."
        return words in os.pread(2, 1 << 20, 0).decode()

    async def main():
        task = asyncio.create_task(asyncio.sleep(1000), name="the sleeper")
        await asyncio.sleep(0)
        {body}
        deadline = time.monotonic() + 60
        while not printed({until!r}) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        print("went on")

    {before}
    aiopoll.run(main(){options})
"""


def run(
    body: str,
    *,
    before: str = "",
    options: str = ", dump_signal=signal.SIGQUIT",
    until: str = "the sleeper: waiting",
    **environment: str,
) -> tuple[str, str]:
    """stdout and stderr of a child that sends itself SIGQUIT; it has to end by itself."""
    program = PROGRAM.format(body=body, before=before, options=options, until=until)
    with tempfile.TemporaryFile() as errors:
        child = subprocess.run(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **environment},
            timeout=CHILD_SECONDS_MAX,
        )
        errors.seek(0)
        text = errors.read().decode()
    assert child.returncode == 0, text
    return child.stdout, text


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("begin(); await asyncio.sleep(1)", "main"),
        ("begin(); time.sleep(1)", "main"),
        ("begin(); sum(range(1 << 26))", "main"),
        ("begin(); os.read(held(), 1)", "main"),
    ],
    ids=["asleep", "sleep", "busy in C", "system call"],
)
def test_tasks_are_printed_and_the_program_goes_on(body: str, line: str) -> None:
    output, errors = run(body)
    assert "the sleeper: waiting, sleep, awaits sleep" in errors
    assert f"<string>:21 {line}" in errors
    assert output == "went on\n"


def test_stacks_come_first_where_the_gil_is_kept() -> None:
    """A match that takes long: no handler of Python's runs before its end."""
    body = """n, took = 18, 0
        while took < 0.2:
            n += 1
            took = -time.monotonic()
            assert not re.match("(a+)+$", "a" * n + "b")
            took += time.monotonic()
        begin()
        assert not re.match("(a+)+$", "a" * (n + 4) + "b")  # 16 times as long
"""
    output, errors = run(body)
    stacks, _, dump = errors.partition("EventLoop at")
    assert "(most recent call first)" in stacks
    assert ' in match\n  File "<string>"' in stacks
    assert "the sleeper: waiting" in dump
    assert output == "went on\n"


@pytest.mark.parametrize(
    "before",
    ["signal.signal(signal.SIGQUIT, lambda *_: os.write(2, b'CALLED'))"],
)
def test_a_handler_of_the_program_stays(before: str) -> None:
    output, errors = run("begin()", before=before, until="CALLED")
    assert errors.startswith("aiopoll: no dump on SIGQUIT: the program has a handler of its own")
    assert errors.endswith("CALLED")
    assert output == "went on\n"


def test_a_later_handler_of_the_program_takes_its_place() -> None:
    body = "asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, os.write, 2, b'later')"
    output, errors = run(f"{body}; begin()", until="later")
    assert errors == "later"
    assert output == "went on\n"


def test_the_environment_names_the_signal() -> None:
    output, errors = run("begin()", options="", AIOPOLL_DUMP_SIGNAL="QUIT")
    assert "the sleeper: waiting" in errors
    assert output == "went on\n"


def test_a_loop_of_another_thread_is_dumped() -> None:
    before = """if True:
        run = aiopoll.run
        def in_thread(main, **options):
            thread = threading.Thread(target=run, args=(main,), kwargs=options)
            thread.start()
            thread.join()
        aiopoll.run = in_thread
"""
    output, errors = run("begin()", before=before)
    assert "the sleeper: waiting" in errors
    assert output == "went on\n"


def test_a_child_of_a_fork_has_its_own() -> None:
    before = """if True:
        parents = aiopoll.new_event_loop(dump_signal=signal.SIGQUIT)
        if child := os.fork():
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    output, errors = run("begin()", before=before)
    assert errors.count("EventLoop at") == 1
    assert output == "went on\n"


def test_many_signals_do_no_harm_to_a_busy_program() -> None:
    """faulthandler alone, which reads stacks while they change, ends some such programs."""
    body = """pid = os.fork()
        if pid == 0:
            for _ in range(400):
                os.kill(os.getppid(), signal.SIGQUIT)
                time.sleep(0.001)
            os._exit(0)
        class Late:
            def __del__(self): pass
        def deep(k):
            Late()
            return k and deep(k - 1) + len([x for x in (y for y in range(3))])
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            deep(20)
"""
    output, errors = run(body)
    assert "most recent call first" not in errors
    assert output == "went on\n"


def test_between_two_loops_the_signal_does_not_end_it() -> None:
    before = """if True:
        aiopoll.new_event_loop(dump_signal=signal.SIGQUIT).close()
        os.kill(os.getpid(), signal.SIGQUIT)
"""
    output, errors = run("", before=before, options="", until="no event loop is open")
    assert "no event loop is open" in errors
    assert output == "went on\n"


@pytest.mark.parametrize("name", ["QUIT", "sigquit", "3"])
def test_a_signal_has_names_and_a_number(name: str) -> None:
    assert signal_of(name) is signal.SIGQUIT


@pytest.mark.parametrize("name", ["", "nothing", "0", "9999", "SIG_DFL"])
def test_what_is_no_signal_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no signal"):
        signal_of(name)


@pytest.mark.parametrize("name", ["KILL", "19"])
def test_what_cannot_be_handled_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be handled"):
        signal_of(name)


@pytest.mark.parametrize("number", [0, 12345, signal.SIGKILL])
def test_a_loop_refuses_a_bad_signal_and_leaks_nothing(number: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ValueError, match=r"not a valid Signals|cannot be handled"):
        aiopoll.new_event_loop(backend="epoll", dump_signal=number)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_bad_name_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPOLL_DUMP_SIGNAL", "QUITE")
    with pytest.raises(ValueError, match="AIOPOLL_DUMP_SIGNAL: no signal: 'QUITE'"):
        aiopoll.new_event_loop()
