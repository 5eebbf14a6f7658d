"""Results of the kernel that are allowed and rare: nothing is lost, cut off or less durable."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.support.preloads import built_preload

pytestmark = pytest.mark.subprocess

SOURCE = Path(__file__).with_name("kernel_faults.c")
RWF_DSYNC = 2
LOOPS = ["aio", "epoll", "asyncio"]

PREAMBLE = """
import asyncio, os, sys
import aiopoll

kind, name = sys.argv[1:]
data = bytes(i * 7 % 251 for i in range(1 << 20))

def run(main):
    if kind == "asyncio":
        asyncio.run(main)
    else:
        aiopoll.run(main, backend=kind)
"""


@pytest.fixture(scope="session")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that stands between a program and the kernel."""
    return built_preload(SOURCE, tmp_path_factory.mktemp("faults"))


def run_with(fault: str, preload: Path, kind: str, path: Path, program: str) -> list[str]:
    """Runs a program under a fault; its lines on both streams."""
    before = os.environ.get("LD_PRELOAD", "")
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(program), kind, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        env={
            **os.environ,
            "AIOPOLL_FAULT": fault,
            "LD_PRELOAD": f"{before} {preload}".strip(),
        },
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


@pytest.mark.parametrize("kind", LOOPS)
def test_a_short_transfer_is_not_the_end(preload: Path, tmp_path: Path, kind: str) -> None:
    program = """
    async def main():
        async with aiopoll.open(name, "w+b", direct=True) as file:
            await file.fallocate(0, len(data))
            assert await file.pwrite(data, 0) == len(data)
            assert os.stat(name).st_size == len(data)
            for start, size in ((0, 65536), (5, 20000), (4096, 8192), (1000, len(data))):
                assert await file.pread(size, start) == data[start : start + size], (start, size)
            memory = aiopoll.AlignedBuffer(65536)
            assert await file.pread_into(memory, 8192) == 65536
            assert bytes(memory) == data[8192 : 8192 + 65536]
            memory[:] = bytes(65536)
            assert await file.pwrite(memory, 4096) == 65536
            whole = data[:4096] + bytes(65536) + data[4096 + 65536 :]
            assert await file.pread(len(data), 0) == whole
            assert await file.pread(1, len(data)) == b""
    run(main())
    """
    assert run_with("short", preload, kind, tmp_path / "file", program) == []


@pytest.mark.parametrize("kind", LOOPS)
def test_request_without_a_slot_is_done_later(preload: Path, tmp_path: Path, kind: str) -> None:
    program = """
    async def main():
        async with aiopoll.open(name, "w+b", direct=True) as file:
            await file.fallocate(0, 64 * 4096)
            blocks = [bytes([number]) * 4096 for number in range(64)]
            for number, block in enumerate(blocks):
                buffer = aiopoll.AlignedBuffer(4096)
                buffer[:] = block
                blocks[number] = buffer
            writes = (file.pwrite(block, number * 4096) for number, block in enumerate(blocks))
            assert await asyncio.gather(*writes) == [4096] * 64
            for _ in range(5):
                reads = (file.pread(4096, number * 4096) for number in range(64))
                assert await asyncio.gather(*reads) == [bytes(block) for block in blocks]
            counts = file.statistics()
            assert (counts.in_flight, counts.waiting) == (0, 0)
    run(main())
    """
    assert run_with("again", preload, kind, tmp_path / "file", program) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("call", ["pwrite", "pwritev", "append"])
def test_durable_writes_ask_the_kernel_for_it(
    preload: Path, tmp_path: Path, kind: str, direct: bool, call: str
) -> None:
    """RWF_DSYNC goes with each write of dsync=True, and with no other, whatever its route."""
    program = f"""
    async def main():
        async with aiopoll.open(name, "w+b", direct={direct}) as file:
            await file.fallocate(0, 65536)
            aligned = aiopoll.AlignedBuffer(4096)
            for dsync in (False, True):
                print(dsync, file=sys.stderr, flush=True)
                for what in (aligned, b"unaligned"):
                    if {call!r} == "append":
                        await file.append(what, dsync=dsync)
                    else:
                        await file.{call}([what] if {call!r} == "pwritev" else what, 0, dsync=dsync)
    run(main())
    """
    lines = run_with("log", preload, kind, tmp_path / "file", program)
    at = lines.index("True")
    plain, durable = lines[lines.index("False") + 1 : at], lines[at + 1 :]
    assert len(plain) >= 2
    assert len(durable) >= 2
    assert [line for line in plain if int(line.split()[1]) & RWF_DSYNC] == []
    assert [line for line in durable if not int(line.split()[1]) & RWF_DSYNC] == []


@pytest.mark.parametrize("kind", LOOPS)
def test_direct_read_of_a_page_in_the_page_cache(preload: Path, tmp_path: Path, kind: str) -> None:
    """Where the kernel cannot read at once, as over a dirty page, the read takes longer."""
    program = """
    async def main():
        for number in range(20):
            with open(name, "wb") as plain:
                plain.write(data[number:])
            async with aiopoll.open(name, "rb", direct=True) as file:
                assert await file.pread(65536, 4096) == data[number:][4096 : 4096 + 65536]
    run(main())
    """
    assert run_with("none", preload, kind, tmp_path / "file", program) == []
