from typing import final

@final
class FileRequest: ...
