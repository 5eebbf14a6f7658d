"""drivers/char/mem.c: /dev/null and /dev/zero.

Facts: neither has a poll method, so both are always readable and writable. AIO poll of the series
refuses them (today's kernel completes it at once). Left out: /dev/mem, /dev/kmsg, /dev/full.
"""

from __future__ import annotations

from ..file import File, FileOperations


def read_null(file: File, count: int, pos: int | None, nowait: bool) -> bytes:
    return b""


def read_zero(file: File, count: int, pos: int | None, nowait: bool) -> bytes:
    return bytes(count)


def null_llseek(file: File, offset: int, whence: int) -> int:
    file.f_pos = 0
    return 0


def write_null(file: File, data: bytes, pos: int | None, nowait: bool) -> int:
    return len(data)


null_fops: FileOperations = FileOperations(
    read=read_null, write=write_null, llseek=null_llseek, seekable=True, nowait=True
)
zero_fops: FileOperations = FileOperations(
    read=read_zero, write=write_null, llseek=null_llseek, seekable=True, nowait=True
)
