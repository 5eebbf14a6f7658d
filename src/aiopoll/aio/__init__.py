"""Linux AIO: requests, contexts, and the completion ring.

Lives here: `Iocb` and `IoEvent` (iocb), `Context` (context), the context kept for the next loop
(context_cache), aligned buffers (buffers), the texts of errors (errors), kernels that miss
wake-ups (missed_wakeups); c/ has the submit
loop (ring), the mapped ring, the waits, the system calls and the fork guard.

May import: nothing else of the package, and no asyncio.

Data comes from programs and from the reactor as iocbs.  It goes to the kernel by io_submit, and
comes back as io_events, from the mapped ring or by io_getevents.
"""
