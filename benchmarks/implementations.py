"""The implementations of a workload by name, and the reason why one is not available here."""

import functools
import importlib
import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Implementation:
    loop: str = "asyncio"  # a module with new_event_loop
    options: dict[str, Any] = field(default_factory=dict)  # of new_event_loop
    needs: str | None = None  # a module, or aiopoll.NAME: a public name of ours
    executable: str | None = None  # its Debian package is called the same
    aio: bool = False  # is about AIO poll: nothing without it


IMPLEMENTATIONS = {
    # loops
    "asyncio": Implementation(),
    "uvloop": Implementation(loop="uvloop"),
    "rloop": Implementation(loop="rloop"),
    "veloxloop": Implementation(loop="veloxloop"),
    "loopmini": Implementation(loop="loopmini"),
    "zuvloop": Implementation(loop="zuvloop"),
    "rsloop": Implementation(loop="rsloop"),
    "aiopoll": Implementation(loop="aiopoll", aio=True),
    "aiopoll-aio": Implementation(loop="aiopoll", options={"backend": "aio"}, aio=True),
    "aiopoll-epoll": Implementation(loop="aiopoll", options={"backend": "epoll"}),
    # our own streams and files, on our loop
    "aiopoll-streams": Implementation(loop="aiopoll", needs="aiopoll.start_server", aio=True),
    "aiopoll-files": Implementation(loop="aiopoll", needs="aiopoll.open", aio=True),
    # datagrams by sendto_many() and receive_in_batches(), on our loop
    "aiopoll-datagrams": Implementation(loop="aiopoll", aio=True),
    # files by other means
    "threads": Implementation(),
    "uvloop-threads": Implementation(loop="uvloop"),
    "aiopoll-threads": Implementation(loop="aiopoll"),
    "aiofiles": Implementation(needs="aiofiles"),
    "anyio": Implementation(needs="anyio"),
    "caio-threads": Implementation(needs="caio"),
    "caio-linux-aio": Implementation(needs="caio"),
    # references without Python: benchmarks/c/echo_server.c, and fio with libaio
    "c-epoll": Implementation(),
    "c-epoll-edge": Implementation(),
    "c-epoll-oneshot": Implementation(),
    "c-epoll-thread": Implementation(),
    "c-epoll-thread-fifo": Implementation(),
    "c-aio": Implementation(aio=True),
    "fio": Implementation(executable="fio"),
}

LOOPS = ("asyncio", "uvloop", "rloop", "aiopoll", "aiopoll-epoll")
LOOPS_WITHOUT_RLOOP = tuple(name for name in LOOPS if name != "rloop")
"""Where rloop has no such thing: TLS, Unix sockets, datagrams over IPv6."""
PROGRAM_LOOPS = (
    *("asyncio", "uvloop", "rloop", "veloxloop", "loopmini", "zuvloop", "rsloop", "aiopoll"),
)
"""What programs are measured on; some of these are for some versions of Python alone."""
REFERENCES = ("c-epoll", "c-aio")
WAYS = tuple(name for name in IMPLEMENTATIONS if name.startswith("c-"))
"""The ways to wait of benchmarks/c/echo_server.c."""
FILES = (
    *("fio", "aiopoll-files", "threads", "aiofiles", "anyio"),
    *("caio-threads", "caio-linux-aio"),
)


def loop_factory(implementation: str) -> Callable[[], Any]:
    """Returns the factory of the implementation's loop.  Raises ImportError if it is missing."""
    described = IMPLEMENTATIONS[implementation]
    module = importlib.import_module(described.loop)
    return functools.partial(module.new_event_loop, **described.options)


def missing(implementation: str) -> str | None:
    """Why the implementation cannot run here; None if it can."""
    described = IMPLEMENTATIONS[implementation]
    if described.executable and not shutil.which(described.executable):
        return f"{described.executable} is not there: apt-get install {described.executable}"
    for need in filter(None, (described.loop, described.needs)):
        module, _, name = need.partition(".")
        if not importlib.util.find_spec(module):
            return f"{module} is not installed: it is in the dependency group bench"
        if name and not hasattr(importlib.import_module(module), name):
            return f"{need} is not there yet"
    if described.aio:
        import aiopoll  # here, for the peers' programs import this module too

        if not (support := aiopoll.probe()).aio_poll:
            return f"no AIO poll here: {support.reason}"
    return None
