"""conftest.py of aiofiles' own tests: its names lead to aiopoll.files, and tests run on our loop.

The suite looks into private names of aiofiles.  `_file`, the file in a thread, is our file itself,
and `_obj`, the file of an open(), is the Opening's.
"""

import importlib
import os
import sys
import types

import pytest

import aiopoll

SUBJECT = os.environ["AIOFILES_SUBJECT"]
"""aiopoll or aiofiles: the second is the oracle."""

if SUBJECT == "aiopoll":
    files = importlib.import_module("aiopoll.files")
    threadpool = types.ModuleType("aiofiles.threadpool")
    for name in ("open", "wrap", "stdin", "stdout", "stderr"):
        setattr(threadpool, name, getattr(files, name))
    setattr(threadpool, "sync_open", open)  # noqa: B010
    for name, module in {
        "aiofiles": files,
        "aiofiles.os": files.os,
        "aiofiles.ospath": files.os.path,
        "aiofiles.tempfile": files.tempfile,
        "aiofiles.threadpool": threadpool,
    }.items():
        sys.modules[name] = module
    setattr(files, "threadpool", threadpool)  # noqa: B010
    itself = property(lambda file: file)
    for file_class in (files.BinaryFile, files.TextFile):
        setattr(file_class, "_file", itself)  # noqa: B010
    opening = importlib.import_module("aiopoll.files.opening").Opening
    setattr(opening, "_obj", property(lambda opening: opening._file))  # noqa: B010


@pytest.fixture(scope="session")
def event_loop_policy() -> object:
    """pytest-asyncio takes its loops from here."""
    return aiopoll.EventLoopPolicy()
