"""Where the monitor sockets of processes are, and which belong to processes that live.

Facts.  A path of a Unix socket outlives the process that has bound it.  Containers may share the
folder, and each has its own numbers of processes.  A folder of /tmp can be
made by any user, of any name, before its owner makes it.

Rule.  The socket of a process is PID.sock, in a folder that its user alone can enter: of
$XDG_RUNTIME_DIR, if that is absolute and short enough for a socket, or else of /tmp with the user's
number in its name.  A folder that is another user's, open to others or a link is refused.  Those of
processes that are gone are removed where sockets are made or listed, unless some process listens.
"""

import errno
import os
import socket
import stat
from collections.abc import Iterator

PID_MAX = 1 << 22
"""The largest number of a process."""
PATH_MAX = 107
"""Bytes of sun_path, but for the 0 at its end."""


def folders_of(uid: int) -> list[str]:
    """The folders where a user's processes may have their sockets, the first one first."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") if uid == os.geteuid() else None
    found = [runtime or f"/run/user/{uid}"]
    found = [os.path.join(each, "aiopoll") for each in found if os.path.isabs(each)]
    found = [each for each in found if os.path.isdir(os.path.dirname(each)) and is_short(each)]
    return [*found, f"/tmp/aiopoll-{uid}"]


def is_short(folder: str) -> bool:
    """Whether the path of a socket in the folder is one that the kernel takes."""
    return len(os.fsencode(os.path.join(folder, f"{PID_MAX}.sock"))) <= PATH_MAX


def make_folder() -> str:
    """The folder for this user's sockets; made if need be.  Raises OSError (EPERM, EACCES, …)."""
    for path in folders_of(os.geteuid()):
        try:
            os.mkdir(path, 0o700)
            os.chmod(path, 0o700)  # whatever the umask is
        except FileExistsError:
            pass
        except OSError as error:
            failed = error  # a runtime folder that may not be written to
            continue
        check_folder(path, os.geteuid())
        return path
    raise failed


def check_folder(path: str, uid: int) -> None:
    """Raises OSError (EPERM) unless the folder is the user's, and closed to all others."""
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        reason = "it is no folder"
    elif status.st_uid != uid:
        reason = f"it belongs to user {status.st_uid}"
    elif status.st_mode & 0o077:
        reason = "others may enter it: chmod 700"
    else:
        return
    raise OSError(errno.EPERM, f"monitor sockets cannot be there: {reason}", path)


def is_alive(pid: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def is_served(path: str) -> bool:
    """Whether a process listens there, of whatever number: another namespace has others."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        try:
            sock.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            pass  # its queue is full
    return True


def sockets_of(uid: int) -> Iterator[tuple[int, str]]:
    """(pid, path) of the sockets of a user's living processes; removes those of dead ones."""
    for folder in folders_of(uid):
        try:
            check_folder(folder, uid)
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            digits, _, end = name.partition(".")
            if end != "sock" or not digits.isdecimal():
                continue
            path = os.path.join(folder, name)
            if is_alive(int(digits)):
                yield int(digits), path
            elif not is_served(path):
                try:
                    os.unlink(path)
                except OSError:
                    pass  # another process was faster, or it is another user's
