"""Readiness: which files are ready, and what runs then.

Lives here: `Reactor` and its two backends (reactor, aio_reactor), the queue of what is to run
(ready_queue, runnable), requests of others on the reactor's ring (request_source), the objects
that own descriptors (descriptor), an epoll set for selectors (epoll_set).

May import: aio, and no asyncio.

Data comes from the loop as descriptors with the callbacks that wait for them.  It goes to the
kernel as AIO polls or entries of an epoll set; ready callbacks come back in the ready queue.
"""
