"""What the kernel underneath does where kernels differ: it is asked, for versions are patched."""

import mmap
import os
from pathlib import Path


def nowait_errno_of_an_empty_pipe() -> int:
    """EAGAIN; EOPNOTSUPP where pipes take no RWF_NOWAIT, as before Linux 6.4."""
    reader, writer = os.pipe()
    try:
        os.preadv(reader, [bytearray(1)], -1, os.RWF_NOWAIT)
    except OSError as error:
        return error.errno or 0
    finally:
        os.close(reader)
        os.close(writer)
    raise AssertionError("an empty pipe was read")


def preallocated_blocks_take_nowait(directory: Path) -> bool:
    """Whether a direct write with RWF_NOWAIT into them is done: on ext4 from Linux 6.3 on."""
    size = mmap.PAGESIZE
    path = directory / "preallocated"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    try:
        os.posix_fallocate(fd, 0, 4 * size)
        return os.pwritev(fd, [mmap.mmap(-1, size)], size, os.RWF_NOWAIT) == size
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
        path.unlink()
