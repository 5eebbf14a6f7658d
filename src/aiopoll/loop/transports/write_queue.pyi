"""Nothing here is for Python code; other compiled modules use it."""

from typing import final

@final
class WriteQueue: ...
