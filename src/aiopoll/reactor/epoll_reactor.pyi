from typing import final

from aiopoll.reactor.reactor import Reactor
from aiopoll.reactor.ready_queue import ReadyQueue

@final
class EpollReactor(Reactor):
    def __init__(self, ready: ReadyQueue) -> None: ...
