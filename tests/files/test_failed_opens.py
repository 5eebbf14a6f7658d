"""An open that fails half-way closes its descriptor once, and never one that it was given.

A number that is closed twice may be another file's by the second time.
"""

import asyncio
import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tests.support.descriptors import open_files, stranger_with

import aiopoll
from aiopoll.files.binary import BinaryFile


class Planted(BaseException):
    """Like KeyboardInterrupt, which comes anywhere."""


def fail(*_: Any) -> None:
    raise Planted


def fail_at_the_end(frame: FrameType, event: str, _: Any) -> Any:
    """A tracer: an interrupt comes when the file is made, and no other code has it yet."""
    if frame.f_code is BinaryFile.__init__.__code__:
        if event == "return":
            raise Planted
        return fail_at_the_end
    return None


def plant(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if step == "at the end":
        sys.settrace(fail_at_the_end)
    elif step == "of the text":
        monkeypatch.setattr("aiopoll.files.text.codecs.getencoder", fail)
    else:
        monkeypatch.setattr(BinaryFile, step, fail)


STEPS = ["_first_position", "at the end", "of the text"]


@pytest.mark.parametrize("step", STEPS)
def test_an_open_by_path_closes_once(
    step: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"text")
    opened: list[int] = []

    def opener(name: Any, flags: int) -> int:
        opened.append(os.open(name, flags))
        return opened[0]

    async def main() -> None:
        mode = "r" if step == "of the text" else "rb"
        plant(step, monkeypatch)
        try:
            await aiopoll.open(path, mode, opener=opener)
        except Planted as error:
            with stranger_with(opened[0]):
                error.__traceback__ = None  # which holds the half-made file
        else:
            pytest.fail("it did not fail")
        finally:
            sys.settrace(None)
            monkeypatch.undo()

    run(main())


@pytest.mark.parametrize("closefd", [True, False])
@pytest.mark.parametrize("kind", ["file", "pipe"])
@pytest.mark.parametrize("step", STEPS[:2])
def test_a_given_descriptor_stays_its_owners(
    step: str, kind: str, closefd: bool, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"text")

    async def main() -> None:
        await aiopoll.read_bytes(path)  # what the first use opens
        fd, other = os.pipe() if kind == "pipe" else (os.open(path, os.O_RDONLY), -1)
        was = open_files()
        plant(step, monkeypatch)
        try:
            with pytest.raises(Planted):
                await aiopoll.open(fd, "rb", closefd=closefd)
        finally:
            sys.settrace(None)
            monkeypatch.undo()
        assert open_files() == was
        os.close(fd)
        if other >= 0:
            os.close(other)

    run(main())


@pytest.mark.parametrize("closefd", [True, False])
def test_a_constructor_that_fails_leaves_the_descriptor(
    closefd: bool, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"text")

    async def main() -> None:
        fd = os.open(path, os.O_RDONLY)
        was = open_files()
        plant("_first_position", monkeypatch)
        with pytest.raises(Planted):
            BinaryFile(asyncio.get_running_loop(), fd, closefd=closefd)
        assert open_files() == was
        os.close(fd)

    run(main())


def test_a_file_that_is_made_twice_keeps_its_descriptor(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"text")

    async def main() -> None:
        async with aiopoll.open(path, "rb") as file:
            with pytest.raises(RuntimeError, match="initialised once"):
                BinaryFile.__init__(file, file.loop, file.fileno())
            assert await file.read() == b"text"

    run(main())
