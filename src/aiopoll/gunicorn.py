"""gunicorn -k aiopoll.gunicorn.UvicornWorker: uvicorn's worker for gunicorn, on this loop.

The class is made at its first use, of uvicorn-worker's or else uvicorn's own: the module can be
imported without either.
"""

import importlib
import warnings
from typing import Any

NEEDS = "aiopoll.gunicorn.UvicornWorker needs gunicorn and uvicorn 0.36 or later"
FIX = "pip install gunicorn 'uvicorn>=0.36' uvicorn-worker"


def _uvicorn_worker() -> Any:
    """Returns the worker class that is installed; raises ImportError that names what is not."""
    causes = []
    for name in ("uvicorn_worker", "uvicorn.workers"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of uvicorn.workers
                base: Any = importlib.import_module(name).UvicornWorker
            config = importlib.import_module("uvicorn.config").Config
        except (ImportError, AttributeError) as error:
            causes.append(str(error))
            continue
        if hasattr(config, "get_loop_factory"):
            return base
        causes.append("this uvicorn takes no loop factory")
    raise ImportError(f"{NEEDS}: {FIX} ({'; '.join(dict.fromkeys(causes))})")


def __getattr__(name: str) -> Any:
    if name != "UvicornWorker":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    base = _uvicorn_worker()

    class UvicornWorker(base):  # type: ignore[misc, valid-type]
        """uvicorn's worker, with EventLoops."""

        CONFIG_KWARGS = {**base.CONFIG_KWARGS, "loop": "aiopoll:new_event_loop"}  # noqa: RUF012

    UvicornWorker.__qualname__ = name
    return globals().setdefault(name, UvicornWorker)
