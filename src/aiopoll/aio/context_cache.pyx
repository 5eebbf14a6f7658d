"""The AIO context of a loop that was closed, kept for the next one.

Facts.  io_destroy(2) waits for an RCU grace period: some tens of milliseconds, which asyncio.run()
and each test of a test suite would pay.  A context belongs to the mm and to none of its threads
(fs/aio.c, ioctx_alloc), counts in fs.aio-nr as long as it is there, and goes when the process
ends.  A fork child has none.

Rule.  At most one is kept, of at most KEPT_MAX slots, and only if nothing is in flight on it and
its ring is empty: its last loop has cancelled and reaped all.  The next loop that asks for as many
slots gets it.  Where io_setup(2) finds no slots left, it is given back first.  In the child of a
fork it is forgotten.

Why not more, and not in a thread.  Slots are the whole machine's; a thread that waits for
io_destroy makes every fork of the program a fork with threads.

Cost.  The slots of one loop stay taken until the process ends, release() is called, or
AIOPOLL_KEEP_CONTEXT=0 is set.

All this runs under the GIL but for io_destroy itself.
"""

from libc.errno cimport EAGAIN
from libc.stdint cimport uint64_t
from libc.stdlib cimport getenv
from libc.string cimport strcmp

from aiopoll.aio.abi cimport aio_context_t, aio_sys_destroy, aio_sys_setup
from aiopoll.aio.fork_guard cimport fork_guard_now, fork_guard_use, process_guard

cdef enum:
    KEPT_MAX = 1024

fork_guard_use(process_guard())

cdef aio_context_t kept = 0
cdef unsigned int kept_nr_events
cdef uint64_t kept_made_in


cdef bint keep_context(aio_context_t ctx, unsigned int nr_events) noexcept:
    """Takes an empty context; False if there is no place for it."""
    global kept, kept_nr_events, kept_made_in
    # Not os.environ, where a signal handler may run, and raise.
    cdef const char *wanted = getenv("AIOPOLL_KEEP_CONTEXT")
    if (nr_events > KEPT_MAX or (wanted != NULL and strcmp(wanted, "0") == 0)
            or (kept and kept_made_in == fork_guard_now())):
        return False
    kept = ctx
    kept_nr_events = nr_events
    kept_made_in = fork_guard_now()
    return True


cdef aio_context_t take_context(unsigned int nr_events) noexcept:
    """The kept context, if it has so many slots; else 0."""
    global kept
    cdef aio_context_t ctx = kept
    if not ctx or kept_nr_events != nr_events or kept_made_in != fork_guard_now():
        return 0
    kept = 0
    return ctx


cdef long open_context(unsigned int nr_events, aio_context_t *ctx) noexcept:
    """The kept context, or a new one: 0 or -errno.  Where no slots are left, the kept one goes."""
    cdef long result
    ctx[0] = take_context(nr_events)
    if ctx[0]:
        return 0
    result = aio_sys_setup(nr_events, ctx)
    if result == -EAGAIN:
        release_contexts()
        ctx[0] = 0
        result = aio_sys_setup(nr_events, ctx)
    return result


cdef int release_contexts() noexcept:
    """Gives the kept context back to the kernel."""
    global kept
    cdef aio_context_t ctx = kept
    kept = 0
    if ctx and kept_made_in == fork_guard_now():
        with nogil:
            aio_sys_destroy(ctx)
    return 0


def release():
    """Gives the context that is kept for the next loop back to the kernel."""
    release_contexts()
