"""The causes of failed system calls and their fixes, as exceptions and as plain words.

The kernel returns a bare errno; these functions find the cause that a user can act on: the
sysctl and its value, the seccomp profile, the file that cannot be polled.
"""

import errno
import os
import re

SECCOMP_FIX = (
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


def aio_max_nr_fix(nr_events: int, max_nr: int | None, taken: int | None) -> str:
    """Returns how to make room for `nr_events` more under fs.aio-max-nr."""
    fewer = f"ask for fewer than {nr_events} events" if nr_events > 1 else "close other contexts"
    if max_nr is None or taken is None:
        return f"{fewer}, or raise the limit as root: sysctl -w fs.aio-max-nr=1048576"
    # A limit that is raised at all is raised for good: twice what is there, or what is needed.
    wanted = max(65536, 2 * max_nr, taken + nr_events)
    raise_it = f"raise it as root: sysctl -w fs.aio-max-nr={1 << (wanted - 1).bit_length()}"
    numbers = f"fs.aio-max-nr is {max_nr} for the whole machine and {taken} of it are taken"
    if taken + nr_events <= max_nr:
        return (
            f"{numbers}, so there is room now: try again, and if it goes on, the sandbox has a"
            f" limit of its own: {fewer}, or {raise_it}"
        )
    return f"{numbers}: {fewer}, or {raise_it}"


def setup_error(code: int, nr_events: int) -> OSError:
    """The exception for io_setup(`nr_events`) that returned -`code`."""
    if code == errno.EAGAIN:
        fix = aio_max_nr_fix(nr_events, read_sysctl("aio-max-nr"), read_sysctl("aio-nr"))
        reason = f"no AIO context can be had: {fix}"
    elif code == errno.EPERM:
        reason = f"a seccomp filter forbids io_setup: {SECCOMP_FIX}"
    elif code == errno.ENOSYS:
        reason = (
            "there is no io_setup: either the kernel was built without CONFIG_AIO, or the"
            f" sandbox hides it: {SECCOMP_FIX}"
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
    errno.EPERM: f"a seccomp filter or a file seal forbids it; if seccomp: {SECCOMP_FIX}",
    errno.ENOSYS: f"there is no io_submit in this kernel or sandbox: {SECCOMP_FIX}",
}

_POLL_EINVAL = (
    "this file cannot be polled by AIO (a terminal or a FIFO opened O_RDWR that is not ready, or"
    " a plain file polled for what it never has), or the kernel has no IOCB_CMD_POLL (before 4.19;"
    " gVisor)"
)


def submit_error(code: int, request: object, is_poll: bool, index: int, total: int) -> SubmitError:
    """The exception for a batch of `total` that io_submit stopped in at `index` with -`code`."""
    if code == errno.EINVAL and is_poll:
        reason = _POLL_EINVAL
    else:
        reason = _SUBMIT_REASONS.get(code, os.strerror(code))
    if code in (errno.EBADF, errno.EINVAL) and getattr(request, "resfd", None) is not None:
        reason += "; or its resfd is not an open eventfd"
    return SubmitError(
        code, f"io_submit stopped at index {index} of {total}, {request!r}: {reason}", index
    )


def cancel_error(code: int, request: object, cancelled_before: bool) -> OSError:
    """The exception for io_cancel that returned -`code`."""
    if code == errno.ENOSYS or code == errno.EPERM:
        reason = (
            "this kernel or sandbox has no io_cancel, without which a file that is polled stays"
            f" open after its close: {SECCOMP_FIX}"
        )
    elif cancelled_before:
        reason = "it was cancelled before: its event comes through reap()"
    else:
        reason = (
            "it has completed, or is a read or write, which the kernel cannot cancel: its event"
            " comes through reap()"
        )
    return OSError(code, f"io_cancel of {request!r}: {reason}")


_GVISOR_VERSION = "#1 SMP Sun Jan 10 15:06:54 PST 2016"
"""The version that uname(2) has in gVisor, of every release (pkg/sentry/kernel/version)."""


def is_gvisor(release: str, version: str) -> bool:
    """Whether uname(2) shows gVisor: a name for people, by which nothing is decided."""
    return "gvisor" in release or version == _GVISOR_VERSION


def poll_refused_reason(code: int, release: str, version: str, file: str = "a pipe") -> str:
    """Why io_submit returned -`code` for a POLL on `file`, of a kind that AIO poll always takes.

    release, version: as uname(2) has them.
    """
    if code in _SUBMIT_REASONS and code != errno.EPERM:
        reason = _SUBMIT_REASONS[code]
    elif code == errno.EPERM:
        reason = f"a seccomp filter forbids io_submit: {SECCOMP_FIX}"
    elif code != errno.EINVAL:
        reason = os.strerror(code)
    elif is_gvisor(release, version):
        reason = (
            "this is gVisor, whose AIO has no IOCB_CMD_POLL: run the container with another"
            " runtime (in Kubernetes another runtime class)"
        )
    elif kernel_version(release) >= IOCB_CMD_POLL_SINCE:
        reason = (
            f"kernel {release} has IOCB_CMD_POLL, so a sandbox refuses it: gVisor does (use another"
            f" runtime class), and so may a seccomp filter: {SECCOMP_FIX}"
        )
    else:
        reason = f"kernel {release} has no IOCB_CMD_POLL: update to Linux 4.19 or later"
    return f"io_submit refused a POLL on {file}: {reason}"


def poll_lost_reason(seconds: float, cause: str) -> str:
    """The message for a POLL that was taken and whose event never came, though `cause` happened."""
    return (
        f"io_submit took a POLL on a pipe, but its event did not come within {seconds:g} s after"
        f" {cause}: this kernel's or sandbox's AIO poll does not work; use a Linux"
        " kernel from 4.19 on without a system call emulation in between"
    )


def getevents_error(code: int, with_mask: bool) -> OSError:
    """The exception for io_getevents, or with a mask io_pgetevents, that returned -`code`."""
    name = "io_pgetevents" if with_mask else "io_getevents"
    if code == errno.ENOSYS and with_mask:
        reason = "not there (it came with Linux 4.18; gVisor has none)"
    elif code == errno.ENOSYS:
        reason = f"not there in this kernel or sandbox: {SECCOMP_FIX}"
    elif code == errno.EPERM:
        whose = ", as Podman's does" if with_mask else ""
        reason = f"a seccomp filter forbids it{whose}: {SECCOMP_FIX}"
    else:
        reason = os.strerror(code)
    return OSError(code, f"{name}: {reason}")


def pgetevents_limit(refusal: OSError) -> str:
    """Which calls work without io_pgetevents, and why the kernel refuses it."""
    return (
        f"{refusal.strerror}. All waits go through io_getevents; only reap(sigmask=...) cannot be"
        " had"
    )


USER_RING_LIMIT = (
    "the completion ring is not usable from user space (no AIO ring magic as under gVisor, or"
    " valgrind is at work). Events are reaped by system call, which is slower"
)

IOCB_CMD_POLL_SINCE = (4, 19)


def kernel_version(release: str) -> tuple[int, int]:
    """Major and minor number of a kernel release such as "6.18.44-generic"; (0, 0) if neither."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)
