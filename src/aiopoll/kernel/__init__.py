"""The poll API and AIO poll, in process: a small kernel in pure Python.

It is laid out like Linux's own tree, one module for one Linux file. `Kernel` has the system
calls as methods; `run` runs an asyncio program wholly inside one, on a virtual clock.
"""

from .kernel import Kernel as Kernel
from .runner import run as run
