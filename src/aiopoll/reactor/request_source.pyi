"""Nothing here is for Python code; aio_reactor and the files use it."""

from typing_extensions import disjoint_base

@disjoint_base
class RequestSource: ...
