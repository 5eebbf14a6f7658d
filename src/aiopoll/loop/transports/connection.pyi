"""Nothing here is for Python code; other compiled modules use it."""

from typing_extensions import disjoint_base

from aiopoll.reactor.runnable import Runnable

@disjoint_base
class Connection(Runnable): ...
