from typing import final

@final
class Counters: ...

@final
class OpenFile: ...
