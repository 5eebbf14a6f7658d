from typing import final

BOUNDS: tuple[float, ...]

_Histogram = tuple[tuple[int, ...], float]

@final
class Meter:
    def read(self) -> tuple[_Histogram, _Histogram, float, float]: ...
