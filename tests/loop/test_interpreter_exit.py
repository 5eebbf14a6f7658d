"""Objects that the interpreter finalizes last, when modules have been emptied: in sys."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, os, subprocess, sys, aiopoll
path = sys.argv[1]
loop = {loop}.new_event_loop()

async def main():
    {made}

sys.kept = loop.run_until_complete(main())
{end}
"""
MADE = {
    "binary file": "file = await aiopoll.open(path, 'r+b'); await file.write(b'written')",
    "appended file": "file = await aiopoll.open(path, 'ab'); await file.write(b'written')",
    "text file": "file = await aiopoll.open(path, 'w'); await file.write('written')",
    "requests of files": "file = await aiopoll.open(path, 'r+b');"
    " [file.pwrite(b'written', 0) for _ in range(300)]; await asyncio.sleep(0)",
    "Context": "file = aiopoll.Context(4); open(path, 'w').write('written')",
    "AioSelector": "file = aiopoll.AioSelector(); open(path, 'w').write('written')",
    "connection": "server = await asyncio.start_server(lambda r, w: None, 'localhost', 0);"
    " file = await asyncio.open_connection(*server.sockets[0].getsockname()[:2]);"
    " open(path, 'w').write('written')",
    "datagrams": "file = await loop.create_datagram_endpoint("
    "asyncio.DatagramProtocol, ('localhost', 0)); open(path, 'w').write('written')",
    "pipes": "r, w = os.pipe(); file = await loop.connect_read_pipe(asyncio.Protocol, open(r)),"
    " await loop.connect_write_pipe(asyncio.Protocol, open(w, 'w'));"
    " open(path, 'w').write('written')",
    "child": "file = await asyncio.create_subprocess_exec('true', stdin=subprocess.PIPE);"
    " await file.wait(); open(path, 'w').write('written')",
}


@pytest.mark.subprocess
@pytest.mark.parametrize("closed", [True, False], ids=["loop closed", "loop open"])
@pytest.mark.parametrize("loop", ["aiopoll", "asyncio"])
@pytest.mark.parametrize("made", MADE)
def test_what_goes_last_loses_nothing(tmp_path: Path, made: str, loop: str, closed: bool) -> None:
    path = tmp_path / "file"
    path.touch()
    end = "loop.close()" if closed else ""
    program = PROGRAM.format(loop=loop, made=f"{MADE[made]}; return file", end=end)
    command = [sys.executable, "-W", "ignore", "-c", program, str(path)]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert path.read_bytes() == b"written"
