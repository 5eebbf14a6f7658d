"""Nothing here is for Python code; aio_reactor uses it."""

from typing_extensions import disjoint_base

from aiopoll.reactor.reactor import Reactor

@disjoint_base
class RingReactor(Reactor): ...
