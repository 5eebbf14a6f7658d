from typing import final

from aiopoll.reactor.aio_reactor import AioReactor
from aiopoll.reactor.ready_queue import ReadyQueue

@final
class MixedReactor(AioReactor):
    def __init__(
        self,
        ready: ReadyQueue,
        nr_events: int = 512,
        user_ring: bool | None = None,
        busy_poll: int = 0,
        wait: str | None = None,
    ) -> None: ...
