from typing_extensions import disjoint_base

from aiopoll.reactor.ready_queue import ReadyQueue
from aiopoll.reactor.ring_reactor import RingReactor

@disjoint_base
class AioReactor(RingReactor):
    def __init__(
        self,
        ready: ReadyQueue,
        nr_events: int = 512,
        user_ring: bool | None = None,
        busy_poll: int = 0,
    ) -> None: ...
    @property
    def nr_events(self) -> int: ...
