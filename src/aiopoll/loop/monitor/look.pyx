"""The look into compiled objects, for a dump.

Facts.  Compiled objects keep their parts where Python code finds none of them.  While a thread has
the GIL no other thread changes one; a reader without one may find a part that is being freed.

Rule.  Each function reads what is there at one moment, and changes nothing: no socket object is
made, no file is duplicated.  Without a GIL the thread that runs the loop calls them, or any while
none does.
"""

from libc.stdint cimport int32_t

from aiopoll.aio.free_threading cimport FREE_THREADED
from aiopoll.loop.core cimport LoopCore
from aiopoll.loop.handles cimport is_elsewhere as runs_elsewhere
from aiopoll.loop.sock_ops cimport Wait
from aiopoll.loop.streams.coroutine cimport StreamCoroutine
from aiopoll.loop.transports.sockaddr cimport (
    AF_INET, AF_INET6, AF_UNIX, address, address_clear, address_to_python, is_known_family,
    socklen_t,
)
from aiopoll.reactor.reactor cimport wakeup_is_asleep
from aiopoll.reactor.registration cimport (
    NO_REQUEST, READ, RING, RING_END, WRITE, Registration, in_epoll,
)

cdef extern from "<sys/socket.h>" nogil:
    enum:
        SOL_SOCKET
        SO_ACCEPTCONN
        SO_DOMAIN
        SO_TYPE
        SOCK_DGRAM
        SOCK_STREAM

    int getsockname(int fd, void *name, socklen_t *length)
    int getpeername(int fd, void *name, socklen_t *length)
    int getsockopt(int fd, int level, int option, void *value, socklen_t *length)

cdef tuple STATES = ("DETACHED", "RING", "RING_END", "LEVEL", "ONE_SHOT", "SPENT", "FORGOTTEN")


def is_elsewhere(LoopCore loop):
    """Whether the loop runs in another thread, and there is no GIL: it cannot be looked into."""
    return runs_elsewhere(loop)


def is_asleep(LoopCore loop):
    """Whether the loop waits in the kernel, or is about to; for a signal's handler, where it did."""
    return loop.in_callbacks == 0 or (
        loop.reactor is not None and wakeup_is_asleep(&loop.reactor.wakeup))


def progress(LoopCore loop):
    """(iterations, callbacks run, callbacks that are ready) of a loop."""
    iterations = 0 if loop.reactor is None else loop.reactor.iterations
    return iterations, loop.callbacks, loop.ready.count


def registrations(LoopCore loop):
    """(fd, state, where, owned, armed directions, reader, writer) of each watched descriptor."""
    cdef Registration registration
    cdef list found = []
    if loop.reactor is None:
        return found
    for registration in loop.reactor.registrations:
        if registration is None:
            continue
        where = ("epoll set" if in_epoll(registration)
                 else "ring" if RING <= registration.state <= RING_END else "nowhere")
        armed = []
        if registration.requests[READ] != NO_REQUEST:
            armed.append("read")
        if registration.requests[WRITE] != NO_REQUEST:
            armed.append("write")
        found.append((registration.fd, STATES[registration.state], where, bool(registration.owned),
                      tuple(armed), registration.reader, registration.writer))
    return found


def timers(LoopCore loop, Py_ssize_t most):
    """(when, TimerHandle) of up to `most` timers, the next one first, the others in no order."""
    cdef Py_ssize_t at
    cdef list found = []
    for at in range(most):
        if at >= <Py_ssize_t>loop.timers.count:
            break
        found.append((loop.timers.timers[at].when,
                      loop.timer_handles[loop.timers.timers[at].slot]))
    return found


def wait_of(callback):
    """(name of the sock_* method, fd, future) of the compiled wait that a callback is, or None."""
    cdef Wait wait
    if not isinstance(callback, Wait):
        return None
    wait = callback
    return type(wait).__name__, wait.fd, wait.future


def stream_of(coroutine):
    """The StreamReader or StreamWriter that a stream's coroutine works on, or None."""
    if not isinstance(coroutine, StreamCoroutine):
        return None
    return (<StreamCoroutine>coroutine).reader or (<StreamCoroutine>coroutine).writer


cdef int option(int fd, int name) noexcept:
    cdef int32_t value = 0
    cdef socklen_t length = sizeof(value)
    return value if getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0 else -1


cdef object python_address(const address *found):
    return address_to_python(found) if is_known_family(found.sa.sa_family) else None


def socket_of(int fd):
    """(kind, local address, peer's address) of a socket; None if the descriptor is another file.

    An address is as the socket module has it; None if there is none.
    """
    cdef address here, peer
    cdef int family = option(fd, SO_DOMAIN), kind = option(fd, SO_TYPE)
    if family < 0:
        return None
    address_clear(&here)
    address_clear(&peer)
    local = python_address(&here) if getsockname(fd, &here.sa, &here.length) == 0 else None
    remote = python_address(&peer) if getpeername(fd, &peer.sa, &peer.length) == 0 else None
    inet = family == AF_INET or family == AF_INET6
    name = ("Unix" if family == AF_UNIX
            else "TCP" if inet and kind == SOCK_STREAM
            else "UDP" if inet and kind == SOCK_DGRAM else f"socket of family {family}")
    if option(fd, SO_ACCEPTCONN) > 0:
        name += " listener"
    return name, local, remote
