"""The thread that `aiopoll top` asks: one for each process that has asked for a monitor.

Facts.  A thread gets the GIL within some milliseconds, unless C code keeps it.  SO_PEERCRED has the
user of the process at the other end.  A forked child has the descriptor, but not the thread.

Rule.  A daemon thread listens on the socket of sockets.py.  A client of the same user, or root,
sends one line, {"limit": N}; it gets one line, the dumps of all open loops, and the end.  Others
get the end.  The thread reads and writes with a limit of time, so that no client keeps it.  Once a
second it notes which loops have gone on; that is all it does unasked.  The socket is removed when
the process ends; a forked child closes its copy, and opens its own with its next loop.

Why.  The loop itself cannot reply while it is stuck, which is when the reply counts.
docs/decisions/0011-a-socket-that-is-asked-for.md has the alternatives.

Cost.  A thread, a descriptor, and a wake-up each second; where it was not asked for, nothing.
"""

import atexit
import errno
import json
import os
import socket
import struct
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from aiopoll.loop.monitor import look
from aiopoll.loop.monitor.dump import LIMIT, dump_of, loops_of
from aiopoll.loop.monitor.sockets import is_served, make_folder, sockets_of
from aiopoll.loop.monitor.stderr import say

if TYPE_CHECKING:
    from aiopoll.loop.event_loop import EventLoop

INTERVAL_S = 1.0
"""How often the loops are looked at."""
CLIENT_S = 2.0
"""How long a client may take for its line, or to read the reply."""
LINE_MAX = 4096
LIMIT_MAX = 10_000

_loops: "weakref.WeakSet[EventLoop]" = weakref.WeakSet()
_beginning = threading.Lock()
_service: "_Service | None" = None


def serve(loop: "EventLoop") -> None:
    """Lets `aiopoll top` look into the loop; a process that cannot have a socket says so once."""
    global _service
    _loops.add(loop)
    with _beginning:
        if _service is None:
            try:
                _service = _Service()
            except (OSError, RuntimeError) as error:
                say(f"no monitor: {error}")
                return
            atexit.register(_service.remove)


class _Service:
    """The socket and its thread."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        folder = make_folder()
        for _ in sockets_of(os.geteuid()):
            pass  # those of dead processes are removed
        self.path = os.path.join(folder, f"{self.pid}.sock")
        if is_served(self.path):
            text = "a process of another PID namespace has the socket"
            raise OSError(errno.EADDRINUSE, text, self.path)
        try:
            os.unlink(self.path)  # of an earlier process of this number
        except FileNotFoundError:
            pass
        self.listener = socket.socket(socket.AF_UNIX)
        try:
            self.listener.bind(self.path)
            os.chmod(self.path, 0o600)  # whatever the umask is
            self.listener.listen(8)
            self.listener.settimeout(INTERVAL_S)
            # id() of a loop: its iterations and callbacks, and since when it has had so many.
            self.seen: dict[int, tuple[int, int, float]] = {}
            self.thread = threading.Thread(target=self.run, name="aiopoll-monitor", daemon=True)
            self.thread.start()
        except BaseException:
            self.listener.close()
            raise

    def remove(self) -> None:
        """Removes the path; in the process alone that has bound it."""
        if os.getpid() == self.pid:
            try:
                os.unlink(self.path)
            except OSError:
                pass

    def run(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except TimeoutError:
                client = None
            except OSError:
                return  # it was closed
            try:
                self.note_progress()
                if client is not None:
                    with client:
                        self.reply(client)
            except OSError:
                pass  # the client is gone
            except Exception as error:  # a loop of the program's own making
                say(f"monitor: {error!r}")

    def note_progress(self) -> None:
        now = time.monotonic()
        before, self.seen = self.seen, {}
        for loop in loops_of(_loops):
            iterations, callbacks, _ = look.progress(loop)
            known = before.get(id(loop))
            if known is None or known[:2] != (iterations, callbacks) or look.is_asleep(loop):
                known = iterations, callbacks, now
            self.seen[id(loop)] = known

    def reply(self, client: socket.socket) -> None:
        client.settimeout(CLIENT_S)
        if not is_trusted(client):
            return
        line = b""
        while not line.endswith(b"\n"):
            more = client.recv(LINE_MAX)
            line += more
            if not more or len(line) > LINE_MAX:
                return
        client.sendall(json.dumps(self.report(line)).encode() + b"\n")

    def report(self, line: bytes) -> dict[str, Any]:
        """What a client gets: an object of a version, the process, and the loops' dumps."""
        try:
            limit = int(json.loads(line).get("limit", LIMIT))
        except (AttributeError, OverflowError, RecursionError, TypeError, ValueError):
            return {"version": 1, "error": 'send {"limit": N} in one line'}
        loops = []
        for loop in loops_of(_loops):
            if not loop.is_closed():
                dump = dump_of(loop, max(0, min(limit, LIMIT_MAX))).as_dict()
                known = self.seen.get(id(loop))
                dump["unchanged"] = 0.0 if known is None else time.monotonic() - known[2]
                loops.append(dump)
        return {"version": 1, "pid": self.pid, "at": time.monotonic(), "loops": loops}


def is_trusted(client: socket.socket) -> bool:
    """Whether the process at the other end is of the same user, or root."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid in (0, os.geteuid())


def _after_fork_in_child() -> None:
    global _service, _beginning, _loops
    _beginning = threading.Lock()
    _loops = weakref.WeakSet()  # a thread of the parent may be going through the other
    if _service is not None:
        _service.listener.close()
        _service = None


os.register_at_fork(after_in_child=_after_fork_in_child)
