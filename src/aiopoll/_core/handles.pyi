"""Nothing here is for Python code; other compiled modules use it."""

SLOTS: frozenset[str]
TIMER_SLOTS: frozenset[str]

class Handles:
    def __init__(self) -> None: ...
