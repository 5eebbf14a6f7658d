from typing import final

@final
class StreamBuffer: ...
