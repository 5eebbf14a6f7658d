"""Lines on stderr of what goes wrong beside the program, which goes on.

Rule.  They never fail: sys.stderr may be None, closed, or an object of the program's own.  What is
not written to sys.stderr goes to descriptor 2, unless another file has that number by now: one that
a program opens is closed at exec(), a standard stream is not.
"""

import contextlib
import os
import sys


def say(text: str, program: str = "aiopoll") -> None:
    """Prints a line, if there is a stderr."""
    if sys.stderr is not None:  # print() would take stdout for it
        with contextlib.suppress(Exception):
            print(f"{program}: {text}", file=sys.stderr, flush=True)


def write_descriptor(text: str) -> None:
    """Writes to the descriptor: the stream may be what the program was in the middle of."""
    try:
        data = text.encode(sys.stderr.encoding, "backslashreplace")
    except Exception:  # None, or an object of the program's own
        data = text.encode("utf-8", "backslashreplace")
    with contextlib.suppress(OSError):
        while data and os.get_inheritable(2):
            data = data[os.write(2, data) :]
