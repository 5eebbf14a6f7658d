"""Nothing here is for Python code; other compiled modules use it."""

from typing_extensions import disjoint_base

@disjoint_base
class Runnable:
    _cancelled: bool
    def _run(self) -> None: ...
