"""Readiness: which files are ready, and what runs then.

Lives here: `Reactor` (reactor) and its backends (mixed_reactor over aio_reactor over ring_reactor,
epoll_reactor), a file and its callbacks (registration), reading again without a poll (speculation),
the queue of callbacks (ready_queue, runnable), requests of others on the reactor's ring
(request_source), the objects that have descriptors (descriptor), duplicates for calls without the
GIL (duplicate), an epoll set for selectors (epoll_set).

May import: aio, and no asyncio.

Data comes from the loop as descriptors with the callbacks that wait for them.  It goes to the
kernel as AIO polls or entries of an epoll set; ready callbacks come back in the ready queue.
"""
