from typing import final

from aiopoll.reactor.reactor import Reactor
from aiopoll.reactor.ready_queue import ReadyQueue

@final
class AioReactor(Reactor):
    def __init__(
        self,
        ready: ReadyQueue,
        nr_events: int = 512,
        user_ring: bool | None = None,
        busy_poll: int = 0,
    ) -> None: ...
    @property
    def nr_events(self) -> int: ...
