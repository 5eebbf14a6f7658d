"""A Dask `distributed` LocalCluster whose scheduler, workers and client are on loops of ours."""

from collections.abc import Callable
from pathlib import Path

import pytest

from .children import Child, python

pytestmark = pytest.mark.subprocess

PROGRAM = Path(__file__).with_name("dask_program.py")

SHIM = """
import asyncio
import aiopoll
asyncio.new_event_loop = asyncio.events.new_event_loop = aiopoll.new_event_loop
"""
"""The code that gives a worker's process our loop: distributed has no hook that reaches it."""


# At INFO it logs, with a traceback, a message to a worker that was just closed; and as an error a
# heartbeat that the end of the cluster meets.
LOGGING = """
logging:
  distributed: warning
  distributed.worker: critical
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["asynchronous", "threads", "processes"])
def test_a_cluster_computes_on_our_loops(
    backend: str, mode: str, start: Callable[..., Child], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SHIM, encoding="utf-8")
    (tmp_path / "dask.yaml").write_text(LOGGING, encoding="utf-8")
    environment = {
        "AIOPOLL_BACKEND": backend,
        "DASK_CONFIG": str(tmp_path),
        "DASK_TEMPORARY_DIRECTORY": str(tmp_path),
    }
    if mode == "processes":
        environment["PYTHONPATH"] = str(tmp_path)
    program = start(python(PROGRAM, mode, backend), environment, cwd=tmp_path)
    program.wait_for("done")
    assert program.finish() == 0, program.output
    program.check_quiet()
