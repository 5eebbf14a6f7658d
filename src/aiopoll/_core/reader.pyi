from typing_extensions import disjoint_base

from aiopoll._core.handles import Runnable

@disjoint_base
class Reader(Runnable): ...
