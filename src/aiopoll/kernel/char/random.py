"""drivers/char/random.c as of 2018: /dev/random, an entropy pool with two thresholds.

Facts: reading takes entropy out of the pool and sleeps when there is none. The file is readable
from 64 bits up and writable (the pool needs more) below 896 of 4096 bits. Before the series it
slept on two queues, one for readers and one for writers. A file has one poll head, so the
conversion (V3) merged them into one queue with keyed wake-ups: IN when entropy arrives, OUT when
the pool falls below its mark. A sleeper that a wake-up was not meant for goes back to sleep.

Rule: writing mixes bytes in but credits nothing; `add_entropy` (RNDADDENTROPY) credits bits.
Left out: the cryptography. The bytes come from the kernel's seed, so a run can be repeated.
"""

from __future__ import annotations

import errno
import random

from ..file import File, FileOperations
from ..sched import Scheduler
from ..uapi import EPOLLIN, EPOLLOUT, EPOLLRDNORM, EPOLLWRNORM, error
from ..wait import WaitQueueHead, wait_event_interruptible

POOL_BITS = 4096
RANDOM_READ_WAKEUP_BITS = 64
RANDOM_WRITE_WAKEUP_BITS = 896


class EntropyPool:
    """struct entropy_store: the input pool, `entropy_bits` of it believed to be random."""

    def __init__(self, sched: Scheduler, seed: int) -> None:
        self.random_wait: WaitQueueHead = WaitQueueHead(sched, "random_wait")
        self.entropy_bits: int = POOL_BITS
        self._generator = random.Random(seed)

    def credit(self, bits: int) -> None:
        self.entropy_bits = min(self.entropy_bits + bits, POOL_BITS)
        if self.entropy_bits >= RANDOM_READ_WAKEUP_BITS:
            self.random_wait.wake_up(EPOLLIN | EPOLLRDNORM)

    def extract(self, count: int) -> bytes:
        """Up to `count` bytes, eight bits of entropy each."""
        taken = min(count, self.entropy_bits // 8)
        self.entropy_bits -= taken * 8
        if self.entropy_bits < RANDOM_WRITE_WAKEUP_BITS:
            self.random_wait.wake_up(EPOLLOUT | EPOLLWRNORM)
        return self._generator.randbytes(taken)

    def mix(self, data: bytes) -> None:
        self._generator.seed(self._generator.randbytes(16) + data)


def random_read(file: File, count: int, pos: int | None, nowait: bool) -> bytes:
    pool: EntropyPool = file.private_data
    if not count:
        return b""
    # One read returns a block of the pool at most.
    while not (data := pool.extract(min(count, 64))):
        if nowait:
            raise error(errno.EAGAIN)
        wait_event_interruptible(
            pool.random_wait, lambda: pool.entropy_bits >= RANDOM_READ_WAKEUP_BITS
        )
    return data


def random_write(file: File, data: bytes, pos: int | None, nowait: bool) -> int:
    pool: EntropyPool = file.private_data
    pool.mix(data)
    return len(data)


def random_get_poll_head(file: File, events: int) -> WaitQueueHead:
    pool: EntropyPool = file.private_data
    return pool.random_wait


def random_poll_mask(file: File, events: int) -> int:
    pool: EntropyPool = file.private_data
    mask = 0
    if pool.entropy_bits >= RANDOM_READ_WAKEUP_BITS:
        mask |= EPOLLIN | EPOLLRDNORM
    if pool.entropy_bits < RANDOM_WRITE_WAKEUP_BITS:
        mask |= EPOLLOUT | EPOLLWRNORM
    return mask


random_fops: FileOperations = FileOperations(
    read=random_read,
    write=random_write,
    get_poll_head=random_get_poll_head,
    poll_mask=random_poll_mask,
)
