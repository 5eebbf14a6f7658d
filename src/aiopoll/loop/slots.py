"""How many slots of fs.aio-max-nr a loop asks for, where the program does not say.

Facts.  fs.aio-max-nr is one number for the whole machine, 65,536 unless it was raised; io_setup(2)
gives what is asked for, or EAGAIN (fs/aio.c, ioctx_alloc).  A ring cannot grow.

Rule.  A loop asks for a sixty-fourth of what is left, from 16 to 512, as a power of two: the kept
context of a closed loop then fits the next one.  If others were faster it asks for half of that,
and so on down to 4.

Why.  Files that find no slot are served through the epoll set, which takes one: a small ring is
better than none.

Failure prevented.  Of two hundred workers that ask for 512 each, the last seventy would get none.

Cost.  Two small files of /proc are read for each loop.
"""

from collections.abc import Iterator

from aiopoll.aio.errors import read_sysctl

SHARE = 64
SLOTS_MAX = 512
SLOTS_FAIR_MIN = 16
SLOTS_MIN = 4


def fair_share(max_nr: int | None, taken: int | None) -> int:
    """Slots to ask for where so many of the machine's are taken; None: not to be read."""
    if max_nr is None or taken is None:
        return SLOTS_MAX
    share = min(SLOTS_MAX, max(SLOTS_FAIR_MIN, (max_nr - taken) // SHARE))
    return 1 << (share.bit_length() - 1)


def slots_to_try() -> Iterator[int]:
    """The fair share, then half of it each time."""
    slots = fair_share(read_sysctl("aio-max-nr"), read_sysctl("aio-nr"))
    while slots >= SLOTS_MIN:
        yield slots
        slots //= 2
