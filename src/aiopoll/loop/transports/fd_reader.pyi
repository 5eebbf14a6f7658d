from typing_extensions import disjoint_base

from aiopoll.reactor.runnable import Runnable

@disjoint_base
class FdReader(Runnable): ...
