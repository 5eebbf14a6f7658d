"""Nothing here is for Python code; socket_transport, accept and tls use it."""

from typing import final

from typing_extensions import disjoint_base

from aiopoll._core.handles import Runnable

@disjoint_base
class DataReceiver: ...

@disjoint_base
class Receiver: ...

@final
class Stream(Runnable): ...

@final
class WriteReady(Runnable): ...
