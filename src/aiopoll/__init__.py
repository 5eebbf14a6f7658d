"""Linux AIO poll for Python."""

from aiopoll._core.aio import Context, Iocb, IoEvent
from aiopoll._core.errors import SubmitError
from aiopoll._core.statistics import ContextStatistics

__all__ = ["Context", "ContextStatistics", "IoEvent", "Iocb", "SubmitError"]
