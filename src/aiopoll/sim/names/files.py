"""open, io, os, fcntl, tempfile and what is built on them: files are the host's.

Facts: os, shutil, glob, tempfile and pathlib call the functions of os by their names, apart from
some that classes of glob and pathlib hold since 3.13.
Rule: the names of os_paths, os_descriptors and raw_files are installed, and nothing above them. A
mapping of a file is refused, memory without one is not.
Left out: files that were open before the run, which stay the machine's.
"""

from __future__ import annotations

import builtins
import fcntl
import glob
import io
import mmap
import os
import resource
import tempfile
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from . import os_descriptors, os_paths
from .dispatch import Dispatcher, Replacement, Value, function, functions, lookalike, method
from .escape import escaped
from .raw_files import FileIO, open_file

if TYPE_CHECKING:
    from ..host import Host

SETS = ("supports_dir_fd", "supports_fd", "supports_follow_symlinks", "supports_effective_ids")


def _supported(simulated: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return the make of a function of os, which is in os.supports_dir_fd like its original."""

    def make(original: Any) -> Dispatcher:
        stand_in = Dispatcher(original, simulated)
        for name in SETS:
            members = getattr(os, name)
            if original in members:
                members.add(stand_in)
        return stand_in

    return make


def _open_code(original: Any) -> Dispatcher:
    """Return the stand-in of io.open_code: program text may lie anywhere on the machine."""

    def simulated(host: Host, path: str) -> Any:
        try:
            return open_file(host, path, "rb")
        except (FileNotFoundError, NotADirectoryError):
            return original(path)

    return Dispatcher(original, simulated)


def _mmap(host: Host, fileno: int, length: int, *args: Any, **kwargs: Any) -> Any:
    if fileno == -1:
        return _real_mmap(fileno, length, *args, **kwargs)
    raise escaped("a mapping of a file", "read it by os.pread, write it by os.pwrite")


_real_mmap = mmap.mmap


def _held(simulated: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return the make of a function of os that a class holds."""

    def make(original: Any) -> Any:
        return staticmethod(Dispatcher(getattr(original, "__func__", original), simulated))

    return make


def _takes_unlink(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and "unlink" in code.co_varnames[: code.co_argcount]


def _end_temporary(host: Host, original: Any, closer: Any, *args: Any, **kwargs: Any) -> Any:
    # tempfile has the machine's unlink in a default argument.
    kwargs.setdefault("unlink", os.unlink)
    return original(closer, *args, **kwargs)


def replacements() -> Iterable[Replacement]:
    for owner in (builtins, io):
        yield owner, "open", function(open_file)
    yield io, "open_code", _open_code
    yield io, "FileIO", lambda original: FileIO
    for name, simulated in {**os_paths.TABLE, **os_descriptors.TABLE}.items():
        if hasattr(os, name):
            yield os, name, _supported(simulated)
    yield from functions(fcntl, os_descriptors.FCNTL)
    yield from functions(resource, os_descriptors.RESOURCE)
    yield mmap, "mmap", lambda original: lookalike(original, _mmap)
    closer: Any = vars(tempfile)["_TemporaryFileCloser"]
    for name in ("close", "cleanup"):
        if _takes_unlink(vars(closer).get(name)):
            yield closer, name, method(_end_temporary)
    for holder in ("_GlobberBase", "_Globber", "_StringGlobber"):
        globber: Any = getattr(glob, holder, None)
        for name in ("lstat", "scandir"):
            if globber is not None and name in vars(globber):
                held = getattr(vars(globber)[name], "__func__", None)
                if held is getattr(os, name):
                    yield globber, name, _held(os_paths.TABLE[name])


def values() -> Iterable[Value]:
    yield tempfile, "tempdir", lambda: "/tmp"
