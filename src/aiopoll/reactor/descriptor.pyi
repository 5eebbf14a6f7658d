import sys
from typing import Any

from typing_extensions import disjoint_base

PLAIN_METHODS: tuple[str, ...]

def is_plain(sock: object) -> bool: ...
def number_of(sock: object) -> int: ...

if sys.version_info >= (3, 12):
    class Descriptor(int):
        file: Any
        def __new__(cls, number: int, file: object) -> Descriptor: ...

else:
    @disjoint_base
    class Descriptor(int):
        file: Any
        def __new__(cls, number: int, file: object) -> Descriptor: ...
