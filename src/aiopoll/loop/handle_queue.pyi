from typing import final

from aiopoll.reactor.ready_queue import ReadyQueue

@final
class HandleQueue(ReadyQueue): ...
