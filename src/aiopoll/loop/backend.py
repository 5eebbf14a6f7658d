"""Which backend a loop gets, and why."""

import os

BACKENDS = ("auto", "aio", "epoll")


def requested_backend(backend: str) -> str:
    """The backend asked for: the argument, or AIOPOLL_BACKEND where that leaves it to us.

    Raises ValueError for a name that is no backend.
    """
    source = "backend"
    if backend == "auto" and (forced := os.environ.get("AIOPOLL_BACKEND")):
        source, backend = "AIOPOLL_BACKEND", forced
    if backend not in BACKENDS:
        raise ValueError(f"{source} must be one of {', '.join(BACKENDS)}, not {backend!r}")
    return backend
