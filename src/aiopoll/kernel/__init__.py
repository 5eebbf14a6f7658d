"""The poll API and AIO poll, in process: a small kernel in pure Python.

Lives here: `Kernel`, whose methods are the system calls, and one module for each file of Linux's
own tree; `run` runs an asyncio program wholly inside one, on a virtual clock.

May import: nothing else of the package, nor any compiled module.

Data comes from system calls.  It goes through struct file and its operations to wait queues, and
comes back as results, events and wake-ups.
"""

from .kernel import Kernel as Kernel
from .runner import run as run
