"""AlignedBuffer and BufferPool."""

import ctypes
import gc

import pytest

from aiopoll import AlignedBuffer, BufferPool


def address(buffer: AlignedBuffer) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


@pytest.mark.parametrize("alignment", [1, 512, 4096, 8192, 1 << 16, 1 << 21])
@pytest.mark.parametrize("size", [1, 511, 4096, 10_000])
def test_memory_is_aligned_and_zero(size: int, alignment: int) -> None:
    buffer = AlignedBuffer(size, alignment)
    assert address(buffer) % max(alignment, 4096) == 0
    assert (len(buffer), buffer.size, buffer.alignment) == (size, size, alignment)
    assert bytes(buffer) == bytes(size)


def test_it_is_a_buffer() -> None:
    buffer = AlignedBuffer(10)
    buffer[2:5] = b"abc"
    buffer[0] = 7
    assert (buffer[0], buffer[-1], buffer[2:5]) == (7, 0, b"abc")
    view = memoryview(buffer)
    assert (view.format, view.shape, view.readonly, view.itemsize) == ("B", (10,), False, 1)
    del buffer
    gc.collect()
    assert view[2:5] == b"abc"
    with pytest.raises(IndexError):
        AlignedBuffer(1)[1]
    with pytest.raises(ValueError, match="different structures"):
        AlignedBuffer(4)[0:2] = b"abc"


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [((0,), ValueError), ((-1,), ValueError), ((1 << 60,), ValueError), ((1, 3), ValueError),
     ((1, 0), ValueError), ((1, 1 << 40), ValueError), (("x",), TypeError),
     ((1 << 45,), MemoryError)],
)  # fmt: skip
def test_bad_sizes(arguments: tuple[int, ...], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        AlignedBuffer(*arguments)


def test_pool_hands_out_returned_buffers_again() -> None:
    pool = BufferPool(16384)
    first = pool.take(5000)
    assert len(first) == 8192
    first[0] = 1
    pool.give(first)
    assert pool.kept == 8192
    with pytest.raises(ValueError, match="already"):
        pool.give(first)
    assert pool.take(8000) is first
    assert pool.take(8000) is not first
    assert pool.kept == 0
    pool.give(pool.take(1))
    pool.give(pool.take(1 << 20))  # larger than the pool keeps
    assert pool.kept == 4096
    assert address(pool.take(100, 1 << 16)) % (1 << 16) == 0
    with pytest.raises(TypeError):
        pool.give(None)  # type: ignore[arg-type]


def test_a_pool_takes_buffers_that_others_made() -> None:
    pool = BufferPool()
    odd, small, aligned = AlignedBuffer(5000), AlignedBuffer(100), AlignedBuffer(4096, 1 << 16)
    for buffer in (odd, small, aligned):
        pool.give(buffer)
        with pytest.raises(ValueError, match="already"):
            pool.give(buffer)
    assert len(pool.take(5000)) == 8192  # not the odd one
    assert pool.take(4096, 1 << 16) is aligned
    assert pool.take(4096) is odd
    assert len(pool.take(1)) == 4096
    assert pool.kept == 0
