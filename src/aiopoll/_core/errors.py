"""What a refused system call meant and what to do about it, as exceptions.

The kernel answers a bare errno; these functions find the cause that a user can act on: the
sysctl and its value, the seccomp profile, the file that cannot be polled.
"""

import errno
import os

SECCOMP_CURE = (
    "allow io_setup, io_submit, io_getevents, io_pgetevents, io_cancel and io_destroy in the"
    " seccomp profile, as Docker's default profile does"
)


class SubmitError(OSError):
    """io_submit stopped at one request of a batch.

    The requests before `index` are in flight, the one at `index` was refused with `errno`, and
    those after it were not tried: submit `batch[index:]` again, or `batch[index + 1:]` without
    the one at fault.
    """

    index: int

    def __init__(self, code: int, message: str, index: int) -> None:
        super().__init__(code, message)
        self.index = index

    def __reduce__(self) -> tuple[type["SubmitError"], tuple[int, str, int]]:
        return SubmitError, (self.args[0], self.args[1], self.index)


def read_sysctl(name: str) -> int | None:
    """The number in /proc/sys/fs/`name`, or None where /proc has no such file to read."""
    try:
        with open(f"/proc/sys/fs/{name}", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def aio_max_nr_cure(nr_events: int, max_nr: int | None, taken: int | None) -> str:
    """Says how to make room for `nr_events` more under fs.aio-max-nr."""
    if max_nr is None or taken is None:
        return f"ask for fewer than {nr_events} events, or raise the sysctl fs.aio-max-nr"
    wanted = taken + nr_events
    value = max(65536, 1 << (wanted - 1).bit_length())
    return (
        f"fs.aio-max-nr is {max_nr} for the whole machine and {taken} of it are taken:"
        f" ask for fewer than {nr_events} events, or raise it: sysctl -w fs.aio-max-nr={value}"
    )


def setup_error(code: int, nr_events: int) -> OSError:
    """The exception for io_setup(`nr_events`) that answered -`code`."""
    if code == errno.EAGAIN:
        cure = aio_max_nr_cure(nr_events, read_sysctl("aio-max-nr"), read_sysctl("aio-nr"))
        reason = f"no AIO context can be had: {cure}"
    elif code == errno.EPERM:
        reason = f"a seccomp filter forbids io_setup: {SECCOMP_CURE}"
    elif code == errno.ENOSYS:
        reason = (
            "there is no io_setup: either the kernel was built without CONFIG_AIO, or the"
            f" sandbox hides it: {SECCOMP_CURE}"
        )
    else:
        reason = os.strerror(code)
    return OSError(code, f"io_setup({nr_events}): {reason}")


_SUBMIT_REASONS = {
    errno.EAGAIN: (
        "the context has no free slot: a request holds its slot until its event is reaped; reap,"
        " then submit again, or make a Context with more nr_events"
    ),
    errno.EBADF: "its file descriptor is not open, or not open for this operation",
    errno.EFAULT: "the memory of its buffer is not accessible",
    errno.EOPNOTSUPP: "this file or kernel does not support its rw_flags",
    errno.EPERM: f"a seccomp filter or a file seal forbids it; if seccomp: {SECCOMP_CURE}",
    errno.ENOSYS: f"there is no io_submit in this kernel or sandbox: {SECCOMP_CURE}",
}

_POLL_EINVAL = (
    "this file cannot be polled by AIO (a terminal or a FIFO opened O_RDWR that is not ready, or"
    " a plain file polled for what it never has), or the kernel has no IOCB_CMD_POLL (before 4.18;"
    " gVisor)"
)


def submit_error(code: int, request: object, is_poll: bool, index: int, total: int) -> SubmitError:
    """The exception for a batch of `total` that io_submit stopped in at `index` with -`code`."""
    if code == errno.EINVAL and is_poll:
        reason = _POLL_EINVAL
    else:
        reason = _SUBMIT_REASONS.get(code, os.strerror(code))
    return SubmitError(
        code, f"io_submit stopped at index {index} of {total}, {request!r}: {reason}", index
    )


def cancel_error(code: int, request: object, cancelled_before: bool) -> OSError:
    """The exception for io_cancel that answered -`code`."""
    if code == errno.ENOSYS or code == errno.EPERM:
        reason = f"this kernel or sandbox has no io_cancel: {SECCOMP_CURE}"
    elif cancelled_before:
        reason = "it was cancelled before: its event comes through reap()"
    else:
        reason = (
            "it has completed, or is a read or write, which the kernel cannot cancel: its event"
            " comes through reap()"
        )
    return OSError(code, f"io_cancel of {request!r}: {reason}")
