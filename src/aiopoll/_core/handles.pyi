"""Nothing here is for Python code; other compiled modules use it."""

from typing import final

SLOTS: frozenset[str]
TIMER_SLOTS: frozenset[str]

@final
class Handles: ...
