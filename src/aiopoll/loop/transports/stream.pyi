"""Nothing here is for Python code; socket_transport, accept and tls use it."""

from typing import final

from aiopoll.reactor.runnable import Runnable

@final
class Stream(Runnable): ...

@final
class WriteReady(Runnable): ...
