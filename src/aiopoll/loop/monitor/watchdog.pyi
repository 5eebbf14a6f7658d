from collections.abc import Callable
from typing import Any, final

from aiopoll.loop.monitor.observation import Observation

@final
class Watch:
    loop: Any
    def __init__(
        self, limit: float, report: Callable[[Any, Observation | Exception], object]
    ) -> None: ...
    def look(self) -> None: ...

def report_all() -> None: ...
def stop() -> None: ...
