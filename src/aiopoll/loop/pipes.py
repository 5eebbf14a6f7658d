"""Which files connect_read_pipe and connect_write_pipe take."""

import os
import stat
from typing import Any


def check_pipe(pipe: Any, call: str) -> None:
    """Raises ValueError for what is no pipe, socket or character device."""
    mode = os.fstat(pipe.fileno()).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode):
        return
    kind = "a regular file" if stat.S_ISREG(mode) else "neither"
    raise ValueError(
        f"{call}() is for pipes, sockets and character devices only, and {pipe!r} is {kind}: a file"
        " is always ready, so that waiting for it shows nothing"
    )
