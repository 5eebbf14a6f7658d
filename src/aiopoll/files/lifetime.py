"""Frees the files' ring and threads before the event loop closes, whichever loop it is.

Facts.  asyncio.Runner, asyncio.run and aiopoll.run call loop.shutdown_asyncgens() before they close
a loop.  asyncio's loop and uvloop then close every asynchronous generator that was started while
they ran.  No loop but ours has another hook.

Rule.  A generator that is kept at its yield shuts the queue down when it is closed.  Our own loop
shuts its queue down in close() too; any other loop's queue is shut down when it is collected.

Cost.  One generator a loop.
"""

import asyncio
from collections.abc import AsyncGenerator

from aiopoll.files.scheduler import FileQueue


async def shut_at_close(queue: FileQueue) -> AsyncGenerator[None, None]:
    """Waits at its yield until the loop shuts its generators down."""
    try:
        yield
    finally:
        queue.shutdown()


def keep_until_shutdown(loop: asyncio.AbstractEventLoop, queue: FileQueue) -> None:
    """Has the queue shut down before the loop closes.  Call it while the loop runs."""
    if queue.keeper is not None:
        return
    keeper = shut_at_close(queue)
    try:
        keeper.__anext__().send(None)
    except StopIteration:
        queue.keeper = keeper
