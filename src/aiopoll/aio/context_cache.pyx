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

One record is exchanged atomically, so that one thread has it at a time.  Another finds none meanwhile,
and waits for nothing; nor does the child of a fork in between.
"""

from libc.errno cimport EAGAIN
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, getenv, malloc
from libc.string cimport strcmp

from aiopoll.aio.abi cimport aio_context_t, aio_sys_destroy, aio_sys_setup
from aiopoll.aio.fork_guard cimport fork_guard_now, fork_guard_use, process_guard

cdef enum:
    KEPT_MAX = 1024

fork_guard_use(process_guard())

cdef extern from *:
    """
    #include <stdbool.h>
    #include "abi.h"

    struct kept_context {
        aio_context_t ctx;
        unsigned nr_events;
        uint64_t made_in;
    };

    static struct kept_context *the_kept;

    static struct kept_context *take_kept(void)
    {
        return __atomic_exchange_n(&the_kept, NULL, __ATOMIC_ACQ_REL);
    }

    /* False if there is another one by now. */
    static bool put_kept(struct kept_context *context)
    {
        struct kept_context *none = NULL;

        return __atomic_compare_exchange_n(&the_kept, &none, context, false, __ATOMIC_ACQ_REL,
                                           __ATOMIC_ACQUIRE);
    }
    """
    struct kept_context:
        aio_context_t ctx
        unsigned int nr_events
        uint64_t made_in

    kept_context *take_kept() nogil
    bint put_kept(kept_context *context) nogil


cdef bint keep_context(aio_context_t ctx, unsigned int nr_events) noexcept:
    """Takes an empty context; False if there is no place for it."""
    # Not os.environ, where a signal handler may run, and raise.
    cdef const char *wanted = getenv("AIOPOLL_KEEP_CONTEXT")
    cdef kept_context *context
    if nr_events > KEPT_MAX or (wanted != NULL and strcmp(wanted, "0") == 0):
        return False
    context = take_kept()
    if context != NULL and context.made_in == fork_guard_now():
        put_back(context)
        return False
    if context == NULL:
        context = <kept_context *>malloc(sizeof(kept_context))
        if context == NULL:
            return False
    context.ctx = ctx
    context.nr_events = nr_events
    context.made_in = fork_guard_now()
    if put_kept(context):
        return True
    free(context)
    return False


cdef int put_back(kept_context *context) noexcept:
    """Keeps a context that was taken out; it goes where another thread has kept one meanwhile."""
    if not put_kept(context):
        destroy(context)
    return 0


cdef int destroy(kept_context *context) noexcept:
    """Gives a context that was taken out back to the kernel, unless it is the parent's."""
    cdef aio_context_t ctx = context.ctx if context.made_in == fork_guard_now() else 0
    free(context)
    if ctx:
        with nogil:
            aio_sys_destroy(ctx)
    return 0


cdef aio_context_t take_context(unsigned int nr_events) noexcept:
    """The kept context, if it has so many slots; else 0."""
    cdef kept_context *context = take_kept()
    cdef aio_context_t ctx
    if context == NULL:
        return 0
    if context.nr_events != nr_events or context.made_in != fork_guard_now():
        put_back(context)
        return 0
    ctx = context.ctx
    free(context)
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
    cdef kept_context *context = take_kept()
    if context != NULL:
        destroy(context)
    return 0


def release():
    """Gives the context that is kept for the next loop back to the kernel."""
    release_contexts()
