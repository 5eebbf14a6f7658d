"""Descriptors 0, 1 and 2 of a host: the output of the process that simulates it.

Rule: what a program writes there goes where print() goes, at once. There is no input: a read finds
the end. dup and dup2 work on them as on other files.
Left out: terminals.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..kernel.file import File, FileOperations

if TYPE_CHECKING:
    from ..kernel.kernel import Kernel

# Bound here, where no world replaces it.
_write = os.write


def standard_read(file: File, count: int, pos: int | None, nowait: bool) -> bytes:
    return b""


def standard_write(file: File, data: bytes, pos: int | None, nowait: bool) -> int:
    return _write(file.private_data, data)


standard_fops: FileOperations = FileOperations(read=standard_read, write=standard_write)


def reserve(kernel: Kernel) -> None:
    """Give the first process of a kernel its descriptors 0, 1 and 2."""
    files = kernel.first.files
    for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        if number not in files.files:
            files.files[number] = File(kernel.sched, standard_fops, flags, number)
