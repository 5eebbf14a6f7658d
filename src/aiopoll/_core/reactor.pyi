from typing import Any, final

from typing_extensions import disjoint_base

from aiopoll._core.reactor_statistics import ReactorStatistics
from aiopoll._core.ready_queue import ReadyQueue


@final
class Watch: ...

@disjoint_base
class Reactor:
    @property
    def backend(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    def close(self) -> None: ...
    def watched(self) -> dict[int, tuple[Any, Any]]: ...
    def statistics(self) -> ReactorStatistics: ...

@final
class EpollReactor(Reactor):
    def __init__(self, ready: ReadyQueue) -> None: ...
