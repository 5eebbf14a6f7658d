"""sock_sendfile and sendfile by sendfile(2), from objects instead of numbers.

Facts.  asyncio asks the file for its number once, and uses that iteration after iteration.
os.sendfile() lets go of the GIL.

Rule.  The file is duplicated for the call, the socket for each system call, right after its object
was asked for its number (duplicate.pyx); one that was closed meanwhile is EBADF.  All else is
asyncio's: the order of steps, one system call an iteration, which errors mean that there is no
sendfile(2) for the two, and where the position of the file is left.

Cost.  A microsecond for each call, which moves some 100 KiB or more.
"""

import asyncio
import errno
from asyncio import unix_events
from asyncio.exceptions import SendfileNotAvailableError
from inspect import signature
from typing import Any

from aiopoll.reactor.duplicate import Duplicate

PART_MAX = 1 << 30
"""Bytes asked for at once, as asyncio from 3.13 on on small machines: any count is taken then."""


_set_position: Any = vars(unix_events.SelectorEventLoop)["_sock_sendfile_update_filepos"]

ALWAYS_SEEKS = "total_sent" not in signature(_set_position).parameters
"""Whether asyncio sets the position of a file of which nothing was sent: from 3.14 on."""


class Sending:
    """One file on its way into a socket."""

    def __init__(self, loop: Any, sock: Any, file: Duplicate, offset: int, count: int) -> None:
        self.loop = loop
        self.sock = sock
        self.file = file
        self.offset: int = offset
        self.count = count
        """Bytes to send; 0 for all that there are."""
        self.block_size: int = count
        self.sent: int = 0
        self.waits: bool = False
        self.done: asyncio.Future[int] = loop.create_future()

    def step(self) -> None:
        """Sends what the socket takes, and comes again when it takes more."""
        first = not self.waits
        if self.waits:
            self.unwatch()
        if self.done.cancelled():
            self.set_position()
            return
        if self.count:
            self.block_size = self.count - self.sent
            if self.block_size <= 0:
                self.finish(None)
                return
        try:
            sent = self.file.sendfile(self.sock, self.offset, min(self.block_size, PART_MAX))
        except (BlockingIOError, InterruptedError):
            self.wait()
        except OSError as error:
            self.finish(self.translated(error, first))
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.finish(error)
        else:
            if sent == 0:  # the end of the file
                self.finish(None)
            else:
                self.offset += sent
                self.sent += sent
                self.wait()

    def later_step(self) -> None:
        """A step that the loop calls: its errors are the future's, for no other code waits."""
        try:
            self.step()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            if not self.done.done():
                self.done.set_exception(error)

    def wait(self) -> None:
        if not self.waits:
            self.waits = True
            self.done.add_done_callback(self.unwatch_cancelled)
        self.loop.add_writer(self.sock, self.later_step)

    def unwatch_cancelled(self, done: "asyncio.Future[int]") -> None:
        if done.cancelled():
            self.unwatch()

    def unwatch(self) -> None:
        try:
            self.loop.remove_writer(self.sock)
        except ValueError:
            pass  # it was closed, and its number is watched for another one

    def translated(self, error: OSError, first: bool) -> Exception:
        """The exception that asyncio raises for an error of sendfile(2)."""
        if self.sent == 0:
            # Mostly a file that has no pages: the caller falls back on send().
            return SendfileNotAvailableError("os.sendfile call failed")
        if not first and error.errno == errno.ENOTCONN and type(error) is not ConnectionError:
            lost = ConnectionError("socket is not connected", errno.ENOTCONN)
            lost.__cause__ = error
            return lost
        return error

    def finish(self, error: BaseException | None) -> None:
        self.set_position()
        if error is None:
            self.done.set_result(self.sent)
        else:
            self.done.set_exception(error)

    def set_position(self) -> None:
        if self.sent > 0 or ALWAYS_SEEKS:
            self.file.seek(self.offset)


async def send_by_sendfile(loop: Any, sock: Any, file: Any, offset: int, count: int | None) -> int:
    """Sends `file` from `offset`, `count` bytes or all; returns how many bytes were sent.

    Raises asyncio.SendfileNotAvailableError where nothing could be sent by sendfile(2).
    """
    try:
        own = Duplicate(file)
    except (AttributeError, OSError):  # io.UnsupportedOperation, of what has no descriptor, too
        raise SendfileNotAvailableError("not a regular file") from None
    try:
        size = count or own.size
        if not size:
            return 0  # an empty file
        sending = Sending(loop, sock, own, offset, count or 0)
        sending.block_size = size
        sending.step()
        return await sending.done
    finally:
        own.close()


async def send_for_transport(
    loop: Any, transport: Any, file: Any, offset: int, count: int | None
) -> int:
    """Sends `file` into the socket of a transport, which neither reads nor writes meanwhile."""
    fd = transport._sock_fd
    del loop._transports[fd]
    resume_reading = transport.is_reading()
    transport.pause_reading()
    await transport._make_empty_waiter()
    sock = transport._sock
    try:
        sent: int = await loop.sock_sendfile(sock, file, offset, count, fallback=False)
        return sent
    finally:
        transport._reset_empty_waiter()
        if resume_reading:
            transport.resume_reading()
        # Unless it was closed meanwhile, and the number is another one's.
        if sock is not None and sock.fileno() == fd:
            loop._transports[fd] = transport


def seek_to(file: Any, offset: int) -> None:
    """Brings a file to the offset that it is sent from, before it is read.

    asyncio does so unless that is 0.  What has no positions is read from where it is.
    """
    try:
        if file.tell() != offset:
            file.seek(offset)
    except (AttributeError, OSError, ValueError):
        if offset:
            raise
