"""sys.stdin and its like in children: what waits for a pipe holds up no end of a program."""

import os
import pty
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.subprocess
SECONDS_MAX = 30  # more is a hang

PROGRAM = """if True:
    import asyncio, os, sys
    import aiopoll
    read = {read}
    async def main():
        print(os.get_blocking(0), flush=True)
        {body}
    {run}
    print("after", flush=True)
"""
READS = {
    "readline": "aiopoll.stdin.readline",
    "read": "aiopoll.stdin.read",
    "bytes": "aiopoll.stdin_bytes.readline",
    "raw": "aiopoll.wrap(open(0, 'rb', 0, closefd=False)).read",
}
RUNS = {
    "aio": "aiopoll.run(main(), backend='aio')",
    "epoll": "aiopoll.run(main(), backend='epoll')",
    "asyncio": "asyncio.run(main())",
    "never closed": "asyncio.new_event_loop().run_until_complete(main())",
}
BEGIN = "task = asyncio.ensure_future(read()); await asyncio.sleep(0.1); "
ENDS = {
    "return": f"{BEGIN}assert not task.done()",
    "timeout": f"{BEGIN}await asyncio.wait([task], timeout=0.1)",
    "exit": f"{BEGIN}sys.exit(3)",
    "error": f"{BEGIN}1 / 0",
}


def start(source: str, stdin: Any = subprocess.PIPE) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-W", "ignore", "-c", source]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=stdin, stdout=pipe, stderr=pipe)


def program(read: str, body: str, run: str) -> str:
    return PROGRAM.format(read=READS[read], body=body, run=RUNS[run])


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("loop", ["aio", "asyncio", "never closed"])
def test_a_program_ends_while_it_waits_for_stdin(loop: str, read: str, end: str) -> None:
    with start(program(read, ENDS[end], loop)) as child:
        try:
            status = child.wait(SECONDS_MAX)  # its stdin is open all the while
        except subprocess.TimeoutExpired:
            child.kill()
            pytest.fail("it waits for stdin")
        assert child.stdout is not None
        printed = child.stdout.read().split()
    assert printed == ([b"True", b"after"] if end in ("return", "timeout") else [b"True"])
    assert status == {"exit": 3, "error": 1}.get(end, 0)


@pytest.mark.parametrize("loop", RUNS)
def test_ctrl_c_ends_a_program_that_waits(loop: str) -> None:
    with start(program("readline", "await read()", loop)) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"True\n"
            child.send_signal(signal.SIGINT)
            assert child.wait(SECONDS_MAX) != 0
        finally:
            child.kill()


@pytest.mark.parametrize("kind", ["pipe", "terminal", "socket"])
@pytest.mark.parametrize("loop", RUNS)
def test_lines_come_as_they_are_written(loop: str, kind: str) -> None:
    body = "\n        ".join(
        [
            "print(sys.stdin.readline(), end='', flush=True)",
            "for _ in range(2): print(await read(), end='', flush=True)",
            "print(sys.stdin.readline(), end='', flush=True)",
            "print(os.get_blocking(0), await aiopoll.stdin.read(), flush=True)",
        ]
    )
    if kind == "terminal":
        writer, reader = pty.openpty()
    elif kind == "pipe":
        reader, writer = os.pipe()
    else:
        reader, writer = (each.detach() for each in socket.socketpair())
    child = start(program("readline", body, loop), reader)
    os.close(reader)
    assert child.stdout is not None
    with child:
        try:
            assert child.stdout.readline() == b"True\n"
            os.write(writer, b"one\ntwo\nthree\n")
            assert [child.stdout.readline() for _ in range(3)] == [b"one\n", b"two\n", b"three\n"]
            os.write(writer, "fö".encode())
            os.write(writer, b"ur\nfive\n")
            assert child.stdout.readline().decode() == "four\n".replace("o", "ö")
            if kind == "terminal":
                os.write(writer, b"\x04")
            else:
                os.close(writer)
            assert child.stdout.read().split() == [b"True", b"five", b"after"]
            assert child.wait(SECONDS_MAX) == 0
        finally:
            child.kill()
            if kind == "terminal":
                os.close(writer)


def test_streams_are_those_of_sys_at_the_call(capsys: Any) -> None:
    import asyncio

    import aiopoll

    async def main() -> None:
        await aiopoll.stdout.write("out")
        await aiopoll.stderr.write("err")
        await aiopoll.stdout_bytes.write(b"bytes")

    asyncio.run(main())
    out, err = capsys.readouterr()
    assert (sorted(out), err) == (sorted("outbytes"), "err")
    assert "aiopoll" in repr(aiopoll.stdin)


def test_what_was_kept_is_of_one_stream_alone(monkeypatch: Any) -> None:
    import asyncio

    import aiopoll

    async def main() -> None:
        for text in (b"half", b"whole\n"):
            reader, writer = os.pipe()
            with open(reader, encoding="utf-8") as file, open(writer, "wb", 0) as other:
                monkeypatch.setattr(sys, "stdin", file)
                other.write(text)
                read = asyncio.ensure_future(aiopoll.stdin.readline())
                await asyncio.wait([read], timeout=0.05 if text == b"half" else SECONDS_MAX)
                if text == b"half":
                    read.cancel()
                    await asyncio.wait([read])
                    assert read.cancelled()
        assert read.result() == "whole\n"

    asyncio.run(main())


def test_no_stdin_is_an_error(monkeypatch: Any) -> None:
    import aiopoll

    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(RuntimeError, match=r"lost sys\.stdin"):
        aiopoll.run(aiopoll.stdin.read())
