"""examples/kv_log.py: the data read back from a log that was cut off, damaged or recycled."""

import asyncio
import errno
import importlib.util
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiopoll

EXAMPLES = Path(__file__).parents[2] / "examples"
SEED = 0x1234_5678
BLOCK = 4096


def load(*names: str) -> list[ModuleType]:
    """Modules of the examples, which find one another by their names meanwhile."""
    modules = []
    try:
        for name in names:
            spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
            modules.append(module)
    finally:
        for name in names:
            sys.modules.pop(name, None)
    return modules


kv_manifest, kv_log, kv_resp = load("kv_manifest", "kv_log", "kv_resp")

RECORDS = [
    [(kv_log.SET, b"first", b"1" * 5000)],
    [(kv_log.SET, b"second", b"2"), (kv_log.DELETE, b"first", b"")],
    [(kv_log.FLUSH, b"", b"")],
    [(kv_log.SET, b"last", b"value" * 20), (kv_log.SET, b"", b"")],
]


def segment_of(batches: list[list[Any]], seed: int = SEED, first: int = 1) -> bytearray:
    """The bytes of a segment with the batches, and zeroes after them."""
    data = bytearray(BLOCK)
    for sequence, records in enumerate(batches, first):
        batch = kv_log.encode_batch(sequence, records, seed)
        data += batch + bytes(-len(batch) % BLOCK)
    return data + bytes(2 * BLOCK)


def read(data: bytes, expected: int | None = 1) -> list[Any]:
    return [records for _, _, records in kv_log.read_batches(bytes(data), SEED, expected)]


def last_batch(data: bytearray) -> tuple[int, int]:
    """Where the last of RECORDS begins and ends."""
    *_, (start, _, _) = kv_log.read_batches(bytes(data), SEED, 1)
    return start, kv_log.find_batch(bytes(data), start, SEED)[1]


def test_written_records_are_read_back() -> None:
    assert read(segment_of(RECORDS)) == RECORDS
    assert read(segment_of([])) == []


@pytest.mark.parametrize("old", ["zeroes", "noise", "a batch of the same sequence number"])
def test_a_write_that_was_cut_off_anywhere_is_the_end(old: str) -> None:
    data = segment_of(RECORDS)
    start, end = last_batch(data)
    before = {
        "zeroes": bytes(end - start),
        "noise": bytes(255 - byte for byte in data[start:end]),
        "a batch of the same sequence number": kv_log.encode_batch(4, RECORDS[3], SEED + 1),
    }[old]
    for cut in range(start, end):
        torn = data[:cut] + before[cut - start :] + data[end:]
        # The bytes that were not written may have the right value by chance.
        expected = RECORDS if torn == data else RECORDS[:3]
        assert read(torn) == expected, cut
    assert read(data) == RECORDS


def test_a_file_that_ends_within_the_last_batch() -> None:
    data = segment_of(RECORDS)
    start, end = last_batch(data)
    for size in range(start + kv_log.BATCH.size, end):
        assert read(data[:size] + bytes(-size % BLOCK)) == (
            RECORDS if not any(data[size:end]) else RECORDS[:3]
        )


def test_a_flipped_bit_in_the_last_batch_is_the_end() -> None:
    data = segment_of(RECORDS)
    start, end = last_batch(data)
    for position in range(8 * start, 8 * end):
        data[position // 8] ^= 1 << position % 8
        assert read(data) == RECORDS[:3], position
        data[position // 8] ^= 1 << position % 8


def test_a_flipped_bit_before_the_last_batch_is_damage() -> None:
    data = segment_of(RECORDS)
    start = last_batch(data)[0]
    for at, sequence, records in list(kv_log.read_batches(bytes(data), SEED, 1))[:-1]:
        end = kv_log.find_batch(bytes(data), at, SEED)[1]
        for position in random.Random(sequence).sample(range(8 * at, 8 * end), 100):
            data[position // 8] ^= 1 << position % 8
            with pytest.raises(kv_log.Damaged, match=f"missing at {at}, before a whole one at"):
                read(data)
            data[position // 8] ^= 1 << position % 8
        assert start > at
        assert records


def test_old_data_of_a_recycled_segment_is_not_read() -> None:
    old = segment_of(RECORDS * 2, seed=SEED + 1)
    new = segment_of(RECORDS[:1])[: -2 * BLOCK]
    assert read(new + old[len(new) :]) == RECORDS[:1]


def test_a_value_made_like_a_batch_is_none() -> None:
    """A client does not know the salt, and may put batches of its own into values."""
    forged = kv_log.encode_batch(2, [(kv_log.SET, b"forged", b"")], SEED + 1)
    value = (forged + bytes(-len(forged) % BLOCK)) * 4
    data = segment_of([[(kv_log.SET, b"key", bytes(BLOCK - 28) + value)]])
    start = BLOCK + kv_log.BATCH.size + kv_log.RECORD.size + 3 + BLOCK - 28
    assert start % BLOCK == 0
    data[BLOCK] ^= 1  # the batch itself is torn
    assert read(data) == []


def test_batches_of_another_place_in_the_order_are_damage() -> None:
    with pytest.raises(kv_log.Damaged, match="missing at 4096"):
        read(segment_of(RECORDS, first=3))
    assert read(segment_of(RECORDS, first=3), expected=None) == RECORDS


def test_segment_has_its_number() -> None:
    size = 1 << 20
    block = kv_log.encode_segment(7, size, 99).ljust(BLOCK, b"\0")
    assert kv_log.decode_segment(block, 7, size) != kv_log.decode_segment(
        kv_log.encode_segment(7, size, 98).ljust(BLOCK, b"\0"), 7, size
    )
    for data, number in ((block, 8), (bytes(BLOCK), 0), (block[:100], 7)):
        with pytest.raises(kv_log.Damaged):
            kv_log.decode_segment(data, number, size)
    for other in (BLOCK, size - 1, size + 1):
        with pytest.raises(kv_log.Damaged, match=f"it ends at {other}, and was made to end at"):
            kv_log.decode_segment(block, 7, other)


# The log on a file system


class Model:
    """The contents of a log, as its callbacks report them."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    def apply(self, record: Any, place: Any, sequence: int) -> None:
        kind, key, value = record
        assert place.length == len(value)
        if kind == kv_log.SET:
            self.values[key] = value
        elif kind == kv_log.DELETE:
            self.values.pop(key, None)
        else:
            self.values.clear()


async def opened(directory: Path) -> tuple[Any, dict[bytes, bytes]]:
    model = Model()
    log = kv_log.Log(directory, 1 << 20, model.apply)
    await log.open()
    return log, model.values


def test_a_log_goes_on_where_it_ended_over_many_segments(tmp_path: Path) -> None:
    async def main() -> None:
        expected: dict[bytes, bytes] = {}
        for session in range(4):
            log, values = await opened(tmp_path)
            assert values == expected
            for number in range(10):
                key, value = b"%d" % (number % 7), bytes([session, number]) * 100_000
                log.append([(kv_log.SET, key, value)])
                expected[key] = value
            await log.sync()
            assert values == expected
            await log.close()
        log, values = await opened(tmp_path)
        assert len(log.segments) > 5
        assert values == expected
        while len(log.segments) > 1:
            await log.retire()
        await log.close()
        names = sorted(path.name for path in tmp_path.iterdir())
        assert len([name for name in names if name.endswith(".log")]) == 2
        log, values = await opened(tmp_path)
        log.append(RECORDS[2])
        await log.sync()
        assert values == {}
        await log.close()

    aiopoll.run(main())


def test_records_that_come_during_a_write_share_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        log, _ = await opened(tmp_path)
        first = log.append(RECORDS[0])
        assert log.append(RECORDS[1]) is first
        while log.segments[-1].file.statistics().in_flight == 0:
            await asyncio.sleep(0)
        second = log.append(RECORDS[2])
        assert second is not first
        assert not first.durable.done()
        assert log.append(RECORDS[3]) is second
        await log.sync()
        assert log.commits == 2
        assert log.backlog == 0
        await log.close()

    aiopoll.run(main())


def test_missing_segment_or_damaged_end_is_reported(tmp_path: Path) -> None:
    async def fill() -> None:
        log, _ = await opened(tmp_path)
        for number in range(12):
            log.append([(kv_log.SET, b"%d" % number, bytes(200_000))])
        await log.close()

    async def refused(match: str) -> None:
        with pytest.raises(kv_log.Damaged, match=match):
            await opened(tmp_path)

    aiopoll.run(fill())
    path = tmp_path / "000002.log"
    data = path.read_bytes()
    path.rename(tmp_path / "kept")
    aiopoll.run(refused("000002.log: it is missing"))
    (tmp_path / "kept").rename(path)
    # The last batch of a segment that is followed by another.
    seed = kv_log.decode_segment(data, 2, len(data))
    *_, (start, _, _) = kv_log.read_batches(data, seed, None)
    path.write_bytes(data[: start + 100] + b"x" + data[start + 101 :])
    aiopoll.run(refused(r"000003.log: a batch is missing at 4096"))


def test_log_without_o_direct_warns_and_uses_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    open_file = aiopoll.open

    def refuse_direct(path: Any, mode: Any, *, direct: bool = False) -> Any:
        if direct:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        return open_file(path, mode)

    monkeypatch.setattr(aiopoll, "open", refuse_direct)

    async def main() -> None:
        for expected in ({}, {b"key": b"value"}):
            log, values = await opened(tmp_path)
            assert values == expected
            log.append([(kv_log.SET, b"key", b"value")])
            await log.sync()
            assert not log.segments[-1].file.direct
            await log.close()

    aiopoll.run(main())
    assert capsys.readouterr().err.count("takes no O_DIRECT") == 2  # once for each log


def test_each_batch_is_written_to_be_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    write = aiopoll.BinaryFile.pwrite

    def pwrite(file: Any, data: Any, offset: int, **options: Any) -> Any:
        calls.append(options)
        return write(file, data, offset, **options)

    async def main() -> None:
        log, values = await opened(tmp_path)
        monkeypatch.setattr(aiopoll.BinaryFile, "pwrite", pwrite)
        for number in range(3):
            log.append([(kv_log.SET, b"%d" % number, b"value")])
            await log.sync()
        assert len(values) == 3
        monkeypatch.undo()
        await log.close()

    aiopoll.run(main())
    assert [options for options in calls if options.get("dsync")] == [{"dsync": True}] * 3


def test_log_that_cannot_write_fails_all_its_waiters(tmp_path: Path) -> None:
    async def main() -> None:
        log, values = await opened(tmp_path)

        class Full:
            """A file on a device that fails."""

            def pwrite(self, *arguments: Any, **options: Any) -> Any:
                raise OSError(5, "Input/output error")

            def close(self) -> Any:
                return file.close()

        file = log.segments[-1].file
        log.segments[-1].file = Full()
        batch = log.append(RECORDS[0])
        with pytest.raises(OSError, match=r"cannot be written: .*Input/output"):
            await batch.durable
        assert "Input/output" in str(await log.failed)
        with pytest.raises(OSError, match="cannot be written"):
            log.append(RECORDS[1])
        assert values == {}
        await log.close()

    aiopoll.run(main())


# RESP


def commands_of(chunks: Iterator[bytes] | list[bytes]) -> list[list[bytes]]:
    parser = kv_resp.CommandParser(1 << 20)
    commands = []
    for chunk in chunks:
        parser.feed(chunk)
        while (command := parser.next()) is not None:
            commands.append(command)
    return commands


def encoded(command: list[bytes]) -> bytes:
    return kv_resp.array(*map(kv_resp.bulk, command))


COMMANDS = st.lists(st.lists(st.binary(max_size=30), min_size=1, max_size=5), max_size=5)


@given(COMMANDS)
def test_commands_may_be_cut_at_every_byte(commands: list[list[bytes]]) -> None:
    data = b"".join(map(encoded, commands))
    assert commands_of([data]) == commands
    assert commands_of([data[i : i + 1] for i in range(len(data))]) == commands
    for cut in range(len(data)):
        assert commands_of([data[:cut], data[cut:]]) == commands


@given(st.binary(max_size=200), st.integers(1, 7))
def test_any_bytes_parse_or_raise_however_cut(data: bytes, size: int) -> None:
    def outcome(chunks: list[bytes]) -> object:
        try:
            return commands_of(chunks)
        except kv_resp.ProtocolError as error:
            return str(error)

    cut = [data[i : i + size] for i in range(0, len(data), size)]
    assert outcome([data]) == outcome(cut)


def test_lines_of_words_are_commands() -> None:
    data = b"SET a b\r\nPING\n\r\n" + encoded([b"GET", b"a"]) + b"*0\r\n*-1\r\n QUIT \r\n"
    words = [[b"SET", b"a", b"b"], [b"PING"], [], [b"GET", b"a"], [], [], [b"QUIT"]]
    for cut in range(len(data)):
        assert commands_of([data[:cut], data[cut:]]) == words


def test_an_error_is_one_line() -> None:
    assert kv_resp.error_reply("ERR a\r\nb") == b"-ERR a b\r\n"
    assert len(kv_resp.error_reply("x" * 10_000)) < 1000
