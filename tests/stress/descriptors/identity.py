"""The sender of bytes: each speaker repeats a block of its own."""

import hashlib
import itertools
import os

BLOCK = 64

_numbers = itertools.count(1)


def next_number() -> int:
    """A unique number; names and addresses are made of it."""
    return next(_numbers)


def new_block() -> bytes:
    """64 bytes that differ in nearly every byte from those of all others."""
    return hashlib.blake2b(b"%d" % next(_numbers), digest_size=BLOCK).digest()


def unique_name() -> str:
    """An abstract Unix address."""
    return f"\0aiopoll-soak-{os.getpid()}-{next(_numbers)}"


class Heard:
    """Compares received data with the stream of the permitted speaker."""

    def __init__(self, block: bytes) -> None:
        self.block = block
        self.position = 0

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Raises AssertionError where a byte is not the next one."""
        at = self.position % BLOCK
        expected = self.block if at == 0 else self.block[at:] + self.block[:at]
        if len(data) > BLOCK:
            expected *= len(data) // BLOCK + 1
        assert expected.startswith(bytes(data)), "foreign data"
        self.position += len(data)
