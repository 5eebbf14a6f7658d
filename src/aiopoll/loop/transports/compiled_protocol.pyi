"""Nothing here is for Python code; stream, streams and tls use it."""

from typing_extensions import disjoint_base

@disjoint_base
class CompiledProtocol: ...

@disjoint_base
class BufferedSink: ...
