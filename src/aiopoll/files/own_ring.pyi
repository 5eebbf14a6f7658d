from asyncio import AbstractEventLoop
from typing import final

from aiopoll.reactor.request_source import RequestSource

@final
class FileRing:
    def __init__(self, loop: AbstractEventLoop, source: RequestSource, nr_events: int) -> None: ...
    def flush(self) -> None: ...
    def on_event(self) -> None: ...
