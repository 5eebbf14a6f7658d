"""The store of the key-value server: the index of its log, the cache, and the commands.

The values are in the log; in memory there are the keys, with the places of their values, and a
bounded cache.  Other values are read from the log by O_DIRECT, while the loop serves others.

The log gives up its oldest segment: values still alive in it are written again at the end.  A
deletion in there has nothing older left to delete, and is dropped.
"""

import asyncio
import functools
import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import kv_log
from kv_log import DELETE, FLUSH, SET, Batch, Log, Place, Record, record_size
from kv_manifest import Damaged
from kv_resp import ARGUMENTS_MAX, NULL, OK, array, bulk, error_reply, integer

import aiopoll

REPLY_MAX = 64 << 20
KEY_MAX = 64 << 10

INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


class Later:
    """A reply that is there when a future is done: bytes, or made of its result.

    exclusive: the connection's next command is not to be carried out before.
    """

    __slots__ = ("exclusive", "future", "reply", "size")

    def __init__(
        self,
        future: "asyncio.Future[Any]",
        reply: bytes | Callable[[Any], bytes],
        size: int = 0,
        exclusive: bool = False,
    ) -> None:
        self.future = future
        self.reply = reply
        self.size = len(reply) if isinstance(reply, bytes) else size
        self.exclusive = exclusive

    def result(self) -> bytes:
        try:
            value = self.future.result()
            return self.reply if isinstance(self.reply, bytes) else self.reply(value)
        except (CommandError, OSError, Damaged) as error:
            return error_reply(f"ERR {error}")


Reply = bytes | Later


async def wait_for(futures: Iterable["asyncio.Future[Any]"]) -> None:
    await asyncio.wait(list(futures))


class CommandError(Exception):
    """The command cannot be carried out."""


class Pending(NamedTuple):
    """A change that is not durable yet.  value: None if the key is deleted."""

    batch: Batch
    value: bytes | None


class Cache:
    """Values by key, the least recently used given up first."""

    def __init__(self, size_max: int) -> None:
        self.size_max = size_max
        self.size = 0
        self._values: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        value = self._values.pop(key, None)
        if value is not None:
            self._values[key] = value
        return value

    def put(self, key: bytes, value: bytes) -> None:
        self.discard(key)
        if len(value) > self.size_max // 8:
            return  # it would drive out too many others
        self._values[key] = value
        self.size += record_size(key, len(value))
        while self.size > self.size_max:
            self.discard(next(iter(self._values)))

    def discard(self, key: bytes) -> None:
        value = self._values.pop(key, None)
        if value is not None:
            self.size -= record_size(key, len(value))

    def clear(self) -> None:
        self._values.clear()
        self.size = 0


class Store:
    """The index of durable values, the pending changes, and the commands on both."""

    def __init__(self, directory: Path, segment_size: int, cache_size: int) -> None:
        self.index: dict[bytes, Place] = {}
        self.unwritten: dict[bytes, Pending] = {}
        self.cache = Cache(cache_size)
        self.log = Log(directory, segment_size, self.apply)
        self.command_max = segment_size // 4
        self.null = NULL[2]
        self.cold_reads = 0
        self.compacted = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        await self.log.open()
        self._compaction = asyncio.create_task(self._compact_forever())

    async def close(self) -> None:
        self._compaction.cancel()
        await asyncio.wait([self._compaction, *self._tasks])
        await self.log.close()

    def apply(self, record: Record, place: Place, sequence: int) -> None:
        """Takes in a record that is durable: just now, or before the start."""
        kind, key, _ = record
        if kind == FLUSH:
            for segment in self.log.segments:
                segment.live = 0
            self.index.clear()
            self.cache.clear()
            later = {key: p for key, p in self.unwritten.items() if p.batch.sequence > sequence}
            self.unwritten = later
            return
        old = self.index.pop(key, None)
        if old is not None:
            old.segment.live -= record_size(key, old.length)
        if kind == SET:
            self.index[key] = place
            place.segment.live += record_size(key, place.length)
        pending = self.unwritten.get(key)
        if pending is not None and pending.batch.sequence == sequence:
            # The key's value after the whole batch, which may hold several changes of it.
            del self.unwritten[key]
            self.cache.discard(key)
            if pending.value is not None:
                self.cache.put(key, pending.value)

    # Reading

    def find(self, key: bytes) -> tuple[Batch | None, bytes | Place | None]:
        """A key's value, or its place in the log, and the batch to wait for before the reply."""
        pending = self.unwritten.get(key)
        if pending is not None:
            return pending
        place = self.index.get(key)
        if place is None:
            return None, None
        value = self.cache.get(key)
        return None, place if value is None else value

    def check(self, key: bytes, place: Place, value: bytes) -> bytes:
        """The value read from the log, if it is intact."""
        if len(value) != place.length or zlib.crc32(value) != place.checksum:
            raise Damaged(f"the log is damaged at {place.segment.file.name}, {place.offset}")
        if self.index.get(key) is place:
            self.cache.put(key, value)
        return value

    def load(self, place: Place) -> "asyncio.Future[bytes]":
        self.cold_reads += 1
        return place.segment.file.pread(place.length, place.offset)

    def get(self, key: bytes) -> Reply:
        batch, found = self.find(key)
        if isinstance(found, Place):
            reply = functools.partial(self._get_loaded, key, found)
            return Later(self.load(found), reply, found.length)
        value = self.null if found is None else bulk(found)
        return value if batch is None else Later(batch.durable, value)

    def _get_loaded(self, key: bytes, place: Place, value: bytes) -> bytes:
        return bulk(self.check(key, place, value))

    def mget(self, *keys: bytes) -> Reply:
        found = [self.find(key)[1] for key in keys]
        size = sum(f.length if isinstance(f, Place) else len(f or b"") for f in found)
        if size > REPLY_MAX:
            raise CommandError(f"a reply has at most {REPLY_MAX} bytes")
        replies = [self.get(key) for key in keys]
        waiting = [reply.future for reply in replies if isinstance(reply, Later)]

        def join(_: None) -> bytes:
            return array(*(r.result() if isinstance(r, Later) else r for r in replies))

        return Later(self._task(wait_for(waiting)), join, size) if waiting else join(None)

    def exists(self, *keys: bytes) -> Reply:
        return self._count(keys, [])

    def _count(self, keys: tuple[bytes, ...], changes: list[Record]) -> Reply:
        """How many of the keys exist; replied when the changes it depends on are durable."""
        found = [self.find(key) for key in keys]
        reply = integer(sum(value is not None for _, value in found))
        if changes:
            return self.write(changes, reply)
        batches = [batch for batch, _ in found if batch is not None]
        if not batches:
            return reply
        return Later(max(batches, key=lambda batch: batch.sequence).durable, reply)

    def dbsize(self) -> Reply:
        """How many keys exist; replied when the changes among them are durable."""
        count = len(self.index)
        for key, pending in self.unwritten.items():
            count += (pending.value is not None) - (key in self.index)
        last = self.log.last
        if last is None or not self.unwritten:
            return integer(count)
        return Later(last.durable, integer(count))

    # Writing

    def write(self, records: list[Record], reply: bytes) -> Reply:
        """Replies when the records are durable."""
        batch = self.log.append(records)
        for kind, key, value in records:
            self.unwritten[key] = Pending(batch, value if kind == SET else None)
        return Later(batch.durable, reply)

    def set(self, key: bytes, value: bytes, *options: bytes) -> Reply:
        for option in options:
            if option.upper() not in (b"NX", b"XX") or len(options) > 1:
                raise CommandError("syntax error: SET takes NX or XX, and no expiry")
            batch, found = self.find(key)
            if (found is None) == (option.upper() == b"XX"):
                return self.null if batch is None else Later(batch.durable, self.null)
        check_key(key)
        return self.write([(SET, key, value)], OK)

    def mset(self, *pairs: bytes) -> Reply:
        if len(pairs) % 2:
            raise CommandError("wrong number of arguments for 'mset' command")
        for key in pairs[::2]:
            check_key(key)
        records = [(SET, key, value) for key, value in zip(pairs[::2], pairs[1::2], strict=True)]
        return self.write(records, OK)

    def delete(self, *keys: bytes) -> Reply:
        keys = tuple(dict.fromkeys(keys))
        there = [key for key in keys if self.find(key)[1] is not None]
        return self._count(keys, [(DELETE, key, b"") for key in there])

    def flushall(self, *options: bytes) -> Reply:
        batch = self.log.append([(FLUSH, b"", b"")])
        gone = Pending(batch, None)
        self.unwritten.update(dict.fromkeys([*self.index, *self.unwritten], gone))
        return Later(batch.durable, OK)

    def incrby(self, key: bytes, amount: bytes, sign: int = 1) -> Reply:
        by = sign * parse_integer(amount)
        _, found = self.find(key)
        if isinstance(found, Place):
            # The connection's next command may depend on this.
            task = self._task(self._add_cold(key, by))
            return Later(task, bytes, exclusive=True)
        return self._add(key, by, found)

    def _add(self, key: bytes, by: int, old: bytes | None) -> Reply:
        new = parse_integer(b"0" if old is None else old) + by
        check_range(new)
        check_key(key)
        return self.write([(SET, key, b"%d" % new)], integer(new))

    async def _add_cold(self, key: bytes, by: int) -> bytes:
        while True:
            _, found = self.find(key)
            if isinstance(found, Place):
                value = self.check(key, found, await self.load(found))
                if key in self.unwritten or self.index.get(key) is not found:
                    continue  # another command has changed it meanwhile
                found = value
            reply = self._add(key, by, found)
            if isinstance(reply, Later):
                await asyncio.wait([reply.future])
                return reply.result()
            return reply

    # Compaction

    async def _compact_forever(self) -> None:
        try:
            while True:
                await self.log.switched.wait()
                self.log.switched.clear()
                while self.is_wasteful():
                    await self._compact()
        except Exception as error:
            self.log.fail(error)

    def is_wasteful(self) -> bool:
        """Whether less than half of the log is needed, but for a few segments."""
        size = sum(segment.size for segment in self.log.segments)
        live = sum(segment.live for segment in self.log.segments)
        return size > 2 * live + 4 * self.log.segment_size

    async def _compact(self) -> None:
        """Writes the live values of the oldest segment again, and gives it up."""
        segment = self.log.segments[0]
        data = await self.log.read(segment)
        end = 0
        for start, _, records in kv_log.read_batches(data, segment.seed, None):
            end = start
            live = [
                record
                for record, place in kv_log.place_records(segment, start, records)
                if record[0] == SET and self._is_alive(record[1], place)
            ]
            if live:
                await asyncio.shield(self.log.append(live).durable)
            await asyncio.sleep(0)
        # A change that replaced one of the records, and was passed over, must be durable too.
        await self.log.sync()
        if segment.live:
            raise Damaged(f"{segment.file.name}: what is needed after {end} cannot be read")
        await asyncio.shield(self._task(self.log.retire()))
        self.compacted += 1

    def _is_alive(self, key: bytes, place: Place) -> bool:
        return key not in self.unwritten and self.index.get(key) == place

    def _task(self, coroutine: Any) -> "asyncio.Task[Any]":
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Commands with which clients begin

    def info(self, *sections: bytes) -> Reply:
        facts = {
            "keys": len(self.index),
            "segments": len(self.log.segments),
            "compacted_segments": self.compacted,
            "commits": self.log.commits,
            "cold_reads": self.cold_reads,
            "cache_bytes": self.cache.size,
            "unwritten_bytes": self.log.backlog,
            **{f"files_{name}": n for name, n in aiopoll.file_statistics()._asdict().items()},
        }
        lines = ["# aiopoll-kv", *(f"{name}:{value}" for name, value in facts.items()), ""]
        return bulk("\r\n".join(lines).encode())

    def config(self, what: bytes, *names: bytes) -> Reply:
        if what.upper() != b"GET":
            raise CommandError("only CONFIG GET is known: options are given at the start")
        known = {b"save": b"", b"appendonly": b"yes"}
        pairs = [(name, known[name]) for name in names if name in known]
        return array(*(bulk(word) for pair in pairs for word in pair))

    def client(self, what: bytes, *words: bytes) -> Reply:
        if what.upper() not in (b"SETINFO", b"SETNAME"):
            raise CommandError("only CLIENT SETINFO and SETNAME are known")
        return OK

    def execute(self, arguments: list[bytes], null: bytes) -> Reply:
        """Carries out a command.  The reply may come later; other commands already see its effect,
        unless it is exclusive.  null: the reply that stands for no value."""
        self.null = null
        name = arguments[0].lower()
        text = name[:64].decode("latin-1")
        command = COMMANDS.get(name)
        if command is None:
            return error_reply(f"ERR unknown command '{text}'")
        function, count_min, count_max = command
        if not count_min <= len(arguments) - 1 <= count_max:
            return error_reply(f"ERR wrong number of arguments for '{text}' command")
        try:
            return function(self, *arguments[1:])
        except (CommandError, OSError) as error:
            return error_reply(f"ERR {error}")


def parse_integer(digits: bytes) -> int:
    if not INTEGER.fullmatch(digits):
        raise CommandError("value is not an integer or out of range")
    return check_range(int(digits))


def check_range(value: int) -> int:
    if not -(1 << 63) <= value < 1 << 63:
        raise CommandError("value is not an integer or out of range")
    return value


def check_key(key: bytes) -> None:
    if len(key) > KEY_MAX:
        raise CommandError(f"a key has at most {KEY_MAX} bytes")


COMMANDS: dict[bytes, tuple[Callable[..., Reply], int, int]] = {
    b"ping": (lambda store, *words: bulk(words[0]) if words else b"+PONG\r\n", 0, 1),
    b"echo": (lambda store, word: bulk(word), 1, 1),
    b"get": (Store.get, 1, 1),
    b"mget": (Store.mget, 1, ARGUMENTS_MAX),
    b"exists": (Store.exists, 1, ARGUMENTS_MAX),
    b"set": (Store.set, 2, 10),
    b"mset": (Store.mset, 2, ARGUMENTS_MAX),
    b"del": (Store.delete, 1, ARGUMENTS_MAX),
    b"unlink": (Store.delete, 1, ARGUMENTS_MAX),
    b"incr": (lambda store, key: store.incrby(key, b"1"), 1, 1),
    b"decr": (lambda store, key: store.incrby(key, b"1", -1), 1, 1),
    b"incrby": (Store.incrby, 2, 2),
    b"decrby": (lambda store, key, by: store.incrby(key, by, -1), 2, 2),
    b"dbsize": (Store.dbsize, 0, 0),
    b"flushall": (Store.flushall, 0, 1),
    b"info": (Store.info, 0, 10),
    b"config": (Store.config, 1, 100),
    b"command": (lambda store, *words: array(), 0, 100),
    b"client": (Store.client, 1, 10),
    b"select": (lambda store, db: OK if db == b"0" else error_reply("ERR no such DB"), 1, 1),
    b"quit": (lambda store: OK, 0, 0),
}
