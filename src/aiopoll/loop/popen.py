"""A Popen whose child has a pidfd from its first moment on.

Facts.  Popen.__init__ calls self._execute_child(), which calls `_fork_exec`, a global of its
module.  Programs replace `subprocess.Popen`, by a subclass or a mock.  Others replace globals of
the module: debuggers replace `_fork_exec`, to follow the child, and some programs `_USE_VFORK`.
A free-threaded Python 3.13 that has started a thread never frees a function.

Rule.  The Popen is of the class that subprocess.Popen is at that moment.  While it is initialised
it has an _execute_child of its own: the same function, on a copy of the module's globals.  In that
copy `_fork_exec` is a Spawner, and os.posix_spawn, which returns no pidfd, is not used.  Function
and copy are used again, by one call at a time.  Where the class has another _execute_child, or a
program has replaced `_fork_exec`, that one is called, and the child has no pidfd.

Why.  The module stays unchanged for all other callers, in every thread.  All that Popen does in
Python is the running version's own code.

Failure prevented.  `subprocess._fork_exec` is replaced while a child is started.  A debugger
attaches in another thread and stores the replacement for ever.  The replacement then starts every
child of every loop.

Cost.  Two objects and a copy of the globals for each child, some 3 microseconds.
"""

import subprocess
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any

from aiopoll.loop.spawn import Spawner

_CHDIR_FAILED = "noexec:chdir"  # of the Pythons that distinguish it
_unused: list[FunctionType] = []


def start_popen(*args: Any, **options: Any) -> tuple["subprocess.Popen[bytes]", int]:
    """Returns a Popen and its child's pidfd, -1 where it has none.  Raises what Popen raises."""
    kind: Any = subprocess.Popen
    execute = getattr(kind, "_execute_child", None)
    fork_exec = getattr(subprocess, "_fork_exec", None)
    if (
        type(kind) is not type
        or not isinstance(execute, FunctionType)
        or execute.__globals__ is not vars(subprocess)
        or not isinstance(fork_exec, BuiltinFunctionType)
    ):
        return kind(*args, **options), -1
    told = _CHDIR_FAILED if _CHDIR_FAILED in execute.__code__.co_consts else "noexec"
    spawner = Spawner(fork_exec, told.encode())
    popen = kind.__new__(kind, *args, **options)
    try:
        ours = _unused.pop()
    except IndexError:
        ours = FunctionType(execute.__code__, {})
    ours.__code__, ours.__defaults__ = execute.__code__, execute.__defaults__
    ours.__kwdefaults__ = execute.__kwdefaults__
    ours.__globals__.update(vars(subprocess), _fork_exec=spawner, _USE_POSIX_SPAWN=False)
    popen._execute_child = partial(ours, popen)
    try:
        popen.__init__(*args, **options)
    finally:
        del popen._execute_child
        ours.__globals__.clear()
        _unused.append(ours)
    return popen, spawner.detach()
