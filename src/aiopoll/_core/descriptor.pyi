from typing import Any

from typing_extensions import disjoint_base

PLAIN_METHODS: tuple[str, ...]

def is_plain(sock: object) -> bool: ...
def number_of(sock: object) -> int: ...

@disjoint_base
class Descriptor(int):
    file: Any
    def __new__(cls, number: int, file: object) -> Descriptor: ...
