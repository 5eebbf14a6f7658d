"""aiopoll.files.tempfile: what tempfile makes, and gone at the end."""

import asyncio
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from aiopoll.files import tempfile as aiotemp


def test_a_named_file_is_gone_once_closed(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with aiotemp.NamedTemporaryFile("w+", dir=tmp_path, suffix=".s", prefix="p") as file:
            await file.write("text")
            await file.flush()
            assert Path(file.name).read_text() == "text"
            assert Path(file.name).name.startswith("p")
            assert file.delete
        assert list(tmp_path.iterdir()) == []
        file = await aiotemp.NamedTemporaryFile(dir=tmp_path)
        assert await file.write(b"x") == 1
        await file.close()
        assert list(tmp_path.iterdir()) == []
        async with aiotemp.NamedTemporaryFile(dir=tmp_path, delete=False) as file:
            pass
        assert [str(path) for path in tmp_path.iterdir()] == [file.name]
        os.unlink(file.name)
        if sys.version_info >= (3, 12):
            options = {"delete_on_close": False}
            async with aiotemp.NamedTemporaryFile(dir=tmp_path, **options) as file:
                await file.close()
                assert os.path.exists(file.name)
        with pytest.raises(FileNotFoundError):
            await aiotemp.NamedTemporaryFile(dir=tmp_path / "none")
        with pytest.raises(TypeError):
            await aiotemp.NamedTemporaryFile(no_such=True)
        assert list(tmp_path.iterdir()) == []

    run(main())


@pytest.mark.parametrize("mode", ["w+", "w+b"])
def test_a_spooled_file_moves_when_it_is_full(run: Any, mode: str) -> None:
    text = "0123456789\n"
    data: Any = text if "b" not in mode else text.encode()

    async def main() -> None:
        with tempfile.SpooledTemporaryFile(40, mode) as model:
            async with aiotemp.SpooledTemporaryFile(40, mode) as file:
                for _ in range(6):
                    assert await file.write(data) == model.write(data)
                    assert file._file._rolled == model._rolled
                assert await file.seek(0) == model.seek(0)
                assert await file.readline() == model.readline()
                assert await file.read(5) == model.read(5)
                assert await file.tell() == model.tell()
                assert [line async for line in file] == list(model)
                await file.truncate(11)
                await file.seek(0)
                assert await file.read() == data
            assert file.closed
            file = await aiotemp.SpooledTemporaryFile(0, mode)
            await file.writelines([data, data])
            assert not file._file._rolled
            await file.rollover()
            assert file._file._rolled
            await file.seek(0)
            assert await file.readlines() == [data, data]
            await file.close()

    run(main())


def test_a_directory_is_removed_with_its_contents(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with aiotemp.TemporaryDirectory("s", "p", tmp_path) as name:
            Path(name, "file").write_text("x")
            assert Path(name).parent == tmp_path
        assert list(tmp_path.iterdir()) == []
        directory = await aiotemp.TemporaryDirectory(dir=tmp_path)
        assert os.path.isdir(directory.name)
        await directory.cleanup()
        assert list(tmp_path.iterdir()) == []

    run(main())


def test_nothing_is_left_of_a_cancelled_opening(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        for make in (aiotemp.NamedTemporaryFile, aiotemp.TemporaryDirectory):

            async def open_it(make: Any = make) -> None:
                async with make(dir=tmp_path):
                    await asyncio.sleep(60)

            for yields in range(8):
                task = asyncio.ensure_future(open_it())
                for _ in range(yields):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
                assert list(tmp_path.iterdir()) == []

    run(main())


def test_a_file_without_a_name_is_the_fast_one(run: Any) -> None:
    async def main() -> None:
        async with aiotemp.TemporaryFile("w+") as file:
            await file.write("text")
            await file.seek(0)
            assert await file.read() == "text"
            assert not isinstance(file, io.IOBase)

    run(main())
