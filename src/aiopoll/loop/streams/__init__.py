"""asyncio's streams, compiled.

Lives here: reader, writer and protocol (streams), what makes asyncio's names mean them (by_name),
the reader's data, its waiter and its limit (core), its buffer (buffer), the coroutines that read()
and its kin return (coroutine).

May import: reactor, loop, loop.transports.

Data comes from a transport, through data_received().  It goes to the coroutine that awaits read()
or its kin.
"""
