from collections.abc import Callable
from typing import Any, final

from aiopoll._core.reactor import Reactor

@final
class AioReactor(Reactor):
    def __init__(
        self,
        dispatch: Callable[[Any], object] | None,
        nr_events: int = 512,
        user_ring: bool | None = None,
        busy_poll: int = 0,
    ) -> None: ...
    @property
    def nr_events(self) -> int: ...
