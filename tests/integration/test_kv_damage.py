"""examples/kv_log.py: any loss from the log's directory is detected."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aiopoll

from .test_kv_log import BLOCK, kv_log, kv_manifest, opened

SIZE = 1 << 20
FIRST, LAST = 3, 7
"""The segments in the directory of the tests: the last is prepared, and not begun."""

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, bytes]]:
    """A directory of which the oldest segments were given up, and the values in it."""
    directory = tmp_path_factory.mktemp("kv") / "whole"

    async def fill() -> dict[bytes, bytes]:
        log, _ = await opened(directory)
        for number in range(22):
            log.append([(kv_log.SET, b"%d" % number, bytes([number]) * 250_000)])
        await log.sync()
        for _ in range(FIRST - 1):
            await log.retire()
        await log.close()
        log, values = await opened(directory)
        await log.close()
        return dict(values)

    values = aiopoll.run(fill())
    assert b"0" not in values
    assert b"21" in values
    names = sorted(path.name for path in directory.iterdir())
    assert names == [*(f"{n:06}.log" for n in range(FIRST, LAST + 1)), "manifest", "spare"]
    return directory, values


@pytest.fixture
def copy(whole: tuple[Path, dict[bytes, bytes]], tmp_path: Path) -> Path:
    shutil.copytree(whole[0], tmp_path / "kv")
    return tmp_path / "kv"


def values_in(directory: Path) -> dict[bytes, bytes]:
    async def main() -> dict[bytes, bytes]:
        log, values = await opened(directory)
        await log.close()
        return dict(values)

    return aiopoll.run(main())


def segment(directory: Path, number: int) -> Path:
    return directory / f"{number:06}.log"


def cut(size: int) -> Damage:
    return lambda path: os.truncate(path, size)


def write(data: bytes, offset: int) -> Damage:
    def damage(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    return damage


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def take_another(path: Path) -> None:
    shutil.copy(path.with_name(f"{FIRST + 1:06}.log"), path.with_suffix(".copy"))
    path.with_suffix(".copy").rename(path)


OF_EACH = {
    "deleted": os.unlink,
    "empty": cut(0),
    "cut within the first block": cut(100),
    "cut after the first block": cut(BLOCK),
    "cut in the middle": cut(SIZE // 2),
    "cut by a byte": cut(SIZE - 1),
    "longer by a byte": cut(SIZE + 1),
    "longer by a block": cut(SIZE + BLOCK),
    "a directory": make_directory,
    "without its first block": write(bytes(BLOCK), 0),
    "one bit of the first block": write(b"\xff", 8),
}
OF_ALL_BUT_THE_LAST = {
    "without its batches": write(bytes(SIZE - BLOCK), BLOCK),
    "without its first batch": write(bytes(BLOCK), BLOCK),
}


@pytest.mark.parametrize("number", range(FIRST, LAST + 1))
@pytest.mark.parametrize("how", OF_EACH)
def test_a_damaged_segment_is_named(copy: Path, number: int, how: str) -> None:
    path = segment(copy, number)
    OF_EACH[how](path)
    with pytest.raises((kv_log.Damaged, OSError), match=path.name):
        values_in(copy)


@pytest.mark.parametrize("number", range(FIRST, LAST - 1))
@pytest.mark.parametrize("how", OF_ALL_BUT_THE_LAST)
def test_batches_that_are_lost_are_missed(copy: Path, number: int, how: str) -> None:
    OF_ALL_BUT_THE_LAST[how](segment(copy, number))
    with pytest.raises(kv_log.Damaged, match="a batch is missing at 4096, before a whole one"):
        values_in(copy)


@pytest.mark.parametrize("number", [FIRST, FIRST + 2, LAST])
def test_another_segment_in_its_place_is_reported(copy: Path, number: int) -> None:
    take_another(segment(copy, number))
    with pytest.raises(kv_log.Damaged, match=f"{number:06}.log: its first block, at 0"):
        values_in(copy)


@pytest.mark.parametrize("count", range(2, LAST - FIRST + 2))
@pytest.mark.parametrize("end", ["oldest", "newest"])
def test_several_segments_lost_at_an_end_are_missed(copy: Path, count: int, end: str) -> None:
    numbers = list(range(FIRST, LAST + 1))
    lost = numbers[:count] if end == "oldest" else numbers[-count:]
    for number in lost:
        segment(copy, number).unlink()
    with pytest.raises(kv_log.Damaged, match=f"{lost[0]:06}.log: it is missing"):
        values_in(copy)


@pytest.mark.parametrize("number", [1, FIRST - 2, LAST + 2, 1000])
def test_a_segment_that_cannot_be_is_named(copy: Path, number: int) -> None:
    shutil.copy(segment(copy, FIRST), segment(copy, number))
    with pytest.raises(kv_log.Damaged, match=f"{number:06}.log: the manifest has no such segment"):
        values_in(copy)


@pytest.mark.parametrize(
    "damage",
    [os.unlink, cut(0), cut(35), write(b"x", 0), write(b"\2", 8), write(b"\1", 24), make_directory],
    ids=["deleted", "empty", "cut", "no manifest", "first", "sequence", "directory"],
)
def test_a_damaged_manifest_is_named(copy: Path, damage: Damage) -> None:
    damage(copy / "manifest")
    with pytest.raises((kv_log.Damaged, OSError), match="manifest"):
        values_in(copy)


def test_foreign_files_in_the_directory_are_ignored(
    copy: Path, whole: tuple[Path, dict[bytes, bytes]]
) -> None:
    for name in ("notes.log", "7.log", "0000003.log", "manifest.new", "x"):
        (copy / name).write_bytes(b"something")
    assert values_in(copy) == whole[1]


@pytest.mark.parametrize("what", ["deleted", "cut", "written over"])
def test_content_of_the_spare_is_ignored(
    copy: Path, whole: tuple[Path, dict[bytes, bytes]], what: str
) -> None:
    spare = copy / "spare"
    {"deleted": os.unlink, "cut": cut(5), "written over": write(b"x" * SIZE, 0)}[what](spare)
    assert values_in(copy) == whole[1]

    async def go_on() -> None:
        log, _ = await opened(copy)
        for number in range(10):
            log.append([(kv_log.SET, b"new %d" % number, bytes(250_000))])
        await log.close()

    aiopoll.run(go_on())
    assert len(values_in(copy)) == len(whole[1]) + 10


# Dying between two steps


def test_a_segment_that_was_given_up_and_kept_its_name(
    copy: Path, whole: tuple[Path, dict[bytes, bytes]]
) -> None:
    (copy / "spare").rename(segment(copy, FIRST - 1))
    assert values_in(copy) == whole[1]
    assert not segment(copy, FIRST - 1).exists()


def test_a_segment_that_was_made_and_is_not_in_the_manifest(
    copy: Path, whole: tuple[Path, dict[bytes, bytes]]
) -> None:
    manifest = kv_manifest.read_manifest(copy)
    assert manifest[:2] == (FIRST, LAST)
    kv_manifest.write_manifest(copy, manifest._replace(last=LAST - 1))
    assert values_in(copy) == whole[1]
    assert kv_manifest.read_manifest(copy) == manifest


@pytest.mark.parametrize("step", range(5))
def test_a_log_that_was_not_quite_made_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Each step that makes names durable fails once, like a server that died before it."""
    steps = []

    def die(function: Any) -> Any:
        def instead(*arguments: Any) -> Any:
            steps.append(function)
            if len(steps) == step + 1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return function(*arguments)

        return instead

    with monkeypatch.context() as patch:
        patch.setattr(kv_log, "write_manifest", die(kv_log.write_manifest))
        patch.setattr(kv_log, "sync_directory", die(kv_log.sync_directory))
        try:
            values_in(tmp_path)
        except OSError:
            pass
    assert len(steps) > step
    assert values_in(tmp_path) == {}


# Descriptors


@pytest.mark.parametrize("rooms", [0, 1, 3])
def test_the_log_asks_for_room_until_it_has_a_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rooms: int
) -> None:
    missing = 3
    asked = 0
    open_file = aiopoll.open

    async def make_room() -> bool:
        nonlocal asked, missing
        asked += 1
        missing -= 1
        return asked <= rooms

    async def open_with_few(path: Any, mode: Any, **options: Any) -> Any:
        if missing > 0:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return await open_file(path, mode, **options)

    async def main() -> None:
        log = kv_log.Log(tmp_path, SIZE, lambda *_: None)
        log.make_room = make_room
        await log.open()
        await log.close()

    monkeypatch.setattr(aiopoll, "open", open_with_few)
    if rooms == 3:
        aiopoll.run(main())
        assert asked == 3
    else:
        with pytest.raises(OSError, match="Too many open files"):
            aiopoll.run(main())
        assert asked == rooms + 1


def test_log_without_a_descriptor_fails_and_keeps_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No client gives one up: waiters get the error, and acknowledged data is there."""
    acknowledged: list[bytes] = []

    async def open_without(path: Any, mode: Any, **options: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    async def fill(log: Any) -> None:
        for number in range(30):
            key = b"%d" % number
            await log.append([(kv_log.SET, key, bytes(200_000))]).durable
            acknowledged.append(key)

    async def main() -> None:
        log, _ = await opened(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(aiopoll, "open", open_without)
            with pytest.raises(OSError, match=r"cannot be written: .*Too many open files"):
                await fill(log)
            assert "Too many open files" in str(await log.failed)
            await log.close()

    aiopoll.run(main())
    assert len(acknowledged) >= 5
    assert sorted(values_in(tmp_path)) == sorted(acknowledged)
