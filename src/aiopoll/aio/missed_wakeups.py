"""Whether this kernel's AIO poll can miss a wake-up.

Facts.  From 4.18 to 5.15 aio_poll_wake() took a request off the wait queue, and a kworker that
found nothing ready put it back.  A wake-up in between was lost: the request never completed, though
its file was ready.  That needs a wake-up without a key, as those of FIN, RST and splice(2) are.
Linux 363bee27 ("aio: keep poll requests on waitqueue until completed") fixed it in 5.16, and in
4.19.221, 5.4.165, 5.10.85 and 5.15.8.  The versions are those of CVE-2021-47505, whose fix is the
next commit of the same series.  Earlier races (af5c72b1, 5.1) lie in the same span.

Rule.  The release decides where it names an upstream version: uname(2)'s own, Debian's in its
version, Ubuntu's in /proc/version_signature.  Distributions with a patch level of their own are
tried: a splice wakes the request, and while the kworker looks, the byte is read and another one is
spliced.  Where a wake-up can be missed, epoll serves the loop.

Why.  A watchdog that polls again would make each lost wake-up a delay, and each idle connection a
cost.

Cost.  A uname(2) a process.  A trial takes TRIAL_SECONDS, once, on kernels whose release does not
show it; a trial that finds nothing proves nothing.

Failure prevented.  A peer sends its last bytes and FIN while the kworker looks: the connection
would wait for ever, with its data in the socket.
"""

import errno
import functools
import os
import re
import select
import threading
import time
from contextlib import ExitStack

from aiopoll.aio.context import Context
from aiopoll.aio.iocb import Iocb

MENDED_IN = {(4, 19): 221, (5, 4): 165, (5, 10): 85, (5, 15): 8}
"""The first patch level that has the mend, of each series that was maintained then."""
MENDED_SINCE = (5, 16)
AIO_POLL_SINCE = (4, 18)
"""Where a distribution may have it; upstream it came with 4.19."""

TRIAL_SECONDS = 0.3
MISSED_SECONDS = 0.1
"""How long the event of a file that is ready may take; a kworker needs microseconds."""

Version = tuple[int, int, int]


def upstream_version(release: str, version: str, signature: str) -> Version | None:
    """The upstream version that a kernel is built from; None if it is not known.

    release, version: as uname(2) has them.  signature: Ubuntu's /proc/version_signature, or "".
    """
    for pattern, text in (
        (r" (\d+)\.(\d+)\.(\d+)\s*$", signature),
        (r"\bDebian (\d+)\.(\d+)\.(\d+)", version),
        (r"^(\d+)\.(\d+)(?:\.(\d+))?", release),
    ):
        if match := re.search(pattern, text):
            return int(match[1]), int(match[2]), int(match[3] or 0)
    return None


def is_mended(version: Version) -> bool | None:
    """Whether a kernel of this version has the fix; None if the version alone does not show it."""
    major, minor, patch = version
    if not AIO_POLL_SINCE <= (major, minor) < MENDED_SINCE:
        return True  # or it has no AIO poll at all
    first = MENDED_IN.get((major, minor))
    return None if first is None or not patch else patch >= first


def missed_in_trial() -> bool:
    """Whether a wake-up was missed in some hundred tries.

    Raises OSError where AIO poll, or what it is tried with, cannot be had.
    """
    with ExitStack() as stack:
        reader, writer = os.pipe()
        stack.callback(os.close, reader)
        stack.callback(os.close, writer)
        source, source_end = os.pipe()
        stack.callback(os.close, source)
        stack.callback(os.close, source_end)
        context = stack.enter_context(Context(1))
        until = time.monotonic() + TRIAL_SECONDS

        def give() -> None:
            try:
                os.splice(source, writer, 1)
            except OSError:  # a sandbox: the other thread must not wait for ever
                os.write(writer, b"x")

        def take_and_give() -> None:
            os.read(reader, 1)
            give()

        while time.monotonic() < until:
            os.write(source_end, b"xx")
            request = Iocb.poll(reader, select.POLLIN)
            context.submit([request])
            other = threading.Thread(target=take_and_give)
            other.start()
            give()
            come = context.reap(1, timeout=MISSED_SECONDS)
            other.join()
            # Now the pipe is not empty: what was slow comes, and what was missed never will.
            if not come and not context.reap(1, timeout=MISSED_SECONDS):
                context.cancel(request)
                return True
            os.read(reader, 1)
    return False


def _signature() -> str:
    try:
        with open("/proc/version_signature", encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


@functools.cache
def missed_wakeups() -> str:
    """Why AIO poll is not to be relied on in this kernel, and what to do; "" where it is."""
    uname = os.uname()
    version = upstream_version(uname.release, uname.version, _signature())
    mended = True if version is None else is_mended(version)
    how = "by its version"
    if mended is None:
        how = "as a trial showed"
        try:
            mended = not missed_in_trial()
        except (OSError, RuntimeError):  # no thread
            return ""  # the caller that needs AIO poll reports why there is none
    if mended:
        return ""
    return (
        f"the AIO poll of kernel {uname.release} can miss a wake-up, {how}, and a connection would"
        " wait for ever (mended by Linux 363bee27): update to Linux 5.16 or later, or to 5.15.8,"
        ' 5.10.85, 5.4.165 or 4.19.221 and later of their series; backend "auto" uses epoll'
        " meanwhile"
    )


def require_wakeups() -> None:
    """Raises OSError (EOPNOTSUPP) where `missed_wakeups` has a reason."""
    if reason := missed_wakeups():
        raise OSError(errno.EOPNOTSUPP, reason)
