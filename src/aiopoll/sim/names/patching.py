"""Puts stand-ins in the place of names while a world runs, and takes them out again.

Facts: `time.monotonic` is found in its module at each call, but `from time import monotonic`
bound the object before the run, in the globals of any module. Locks and thread-locals in the
globals of modules are shared by all threads, and a host's thread must never wait for a real one.
The attributes of a class of C are in a dict, which is written to as any, if CPython then drops
what it has cached of the class (PyType_Modified).

Rule: a stand-in is made once a process. Each module's globals are searched once, and again when
their size changed; what was found is kept, so a run costs one assignment a place. What a run
replaced it restores, whatever the program assigned meanwhile. A name that other code has
replaced at the start, a mock for instance, is left to it.
Left out: originals bound in class bodies, default arguments, closures and C, and in modules that
sys.modules does not have. The boundary page names them.
"""

from __future__ import annotations

import _thread
import ctypes
import gc
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from .dispatch import Replacement, Value

# The simulator's own modules, and what it is built on, mean the real names.
SKIPPED = ("aiopoll.kernel", "aiopoll.sim", "importlib._bootstrap", "_frozen_importlib")
MISSING = object()
# Py_TPFLAGS_HEAPTYPE: a class whose attributes may be set. Those of others are in a dict too.
HEAP_TYPE = 1 << 9


def dict_of(kind: type) -> dict[str, Any]:
    """Return the dict behind `kind.__dict__`, which is a view of it."""
    (found,) = (each for each in gc.get_referents(kind.__dict__) if type(each) is dict)
    return found


def type_modified(kind: type) -> None:
    """Let CPython forget what it has cached of the attributes of `kind` and its subclasses."""
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))


class Place:
    """One name in one namespace, with its original and the stand-in."""

    __slots__ = ("name", "namespace", "original", "owner", "stand_in")

    def __init__(self, owner: Any, name: str, original: Any, stand_in: Any) -> None:
        self.owner: Any = owner
        self.name: str = name
        self.original: Any = original
        self.stand_in: Any = stand_in
        # A module's names are assigned directly; a class wants setattr, unless it is of C.
        self.namespace: dict[str, Any] | None = None
        if isinstance(owner, ModuleType):
            self.namespace = owner.__dict__
        elif not owner.__flags__ & HEAP_TYPE:
            self.namespace = dict_of(owner)

    def get(self) -> Any:
        return self.owner.__dict__.get(self.name, MISSING)

    def put(self, value: Any) -> None:
        if self.namespace is not None:
            if value is MISSING:
                self.namespace.pop(self.name, None)
            else:
                self.namespace[self.name] = value
            if not isinstance(self.owner, ModuleType):
                type_modified(self.owner)
        elif value is not MISSING:
            setattr(self.owner, self.name, value)
        elif self.name in self.owner.__dict__:
            delattr(self.owner, self.name)


class Patches:
    """All replacements of a process: `install` puts them in, `restore` takes them out.

    `shared(value)` returns a stand-in for an object in a module's globals that hosts must not
    share with real threads (a lock, a thread-local), or None. `late()` yields replacements that
    depend on what is imported by now; `values()` what a run starts anew with. `real(value)` returns
    what a module has after the run in place of a lock or local that it made inside, or None.
    """

    def __init__(
        self,
        replacements: Iterable[Replacement],
        late: Callable[[], Iterable[Replacement]],
        values: Callable[[], Iterable[Value]],
        shared: Callable[[Any], Any],
        real: Callable[[Any], Any],
    ) -> None:
        self._late = late
        self._values = values
        self._shared = shared
        self._real = real
        self._places: dict[tuple[int, str], Place] = {}
        # By the identity of the original: the original, which keeps the number its own.
        self._stand_ins: dict[int, tuple[Any, Any]] = {}
        self._originals: dict[int, tuple[Any, Any]] = {}
        self._scanned: dict[int, tuple[ModuleType, int]] = {}
        self._installed: dict[tuple[int, str], Place] = {}
        self._begun: list[Place] = []
        self.active: bool = False
        self.kept: int = 0
        for owner, name, make in replacements:
            self._add(owner, name, make)

    def _add(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        found = owner.__dict__.get(name, MISSING)
        original = found
        if found is MISSING and not isinstance(owner, ModuleType):
            # Inherited: the class gets a name of its own for the run.
            original = getattr(owner, name)
        if found is MISSING and isinstance(owner, ModuleType):
            stand_in = make(MISSING)
        elif isinstance(owner, ModuleType):
            known = self._stand_ins.get(id(original))
            stand_in = make(original) if known is None else known[1]
            self._stand_ins[id(original)] = (original, stand_in)
            self._originals[id(stand_in)] = (stand_in, original)
        else:
            stand_in = make(original)
        self._places[id(owner), name] = Place(owner, name, found, stand_in)

    def install(self) -> None:
        """Put every stand-in in its place, and begin the values of a run.

        RuntimeError if a run has begun already.
        """
        if self.active:
            raise RuntimeError("a world runs already in this process, and worlds do not nest")
        self.active = True
        try:
            for owner, name, make in self._late():
                self._add(owner, name, make)
            self._scan()
            self._put_in()
            for owner, name, begin in self._values():
                place = Place(owner, name, owner.__dict__.get(name, MISSING), begin())
                self._begun.append(place)
                place.put(place.stand_in)
        except BaseException:
            self.restore()
            raise

    def restore(self) -> None:
        """End a run: take the stand-ins out, unless they are kept for the next one."""
        while self._begun:
            place = self._begun.pop()
            place.put(place.original)
        self.active = False
        self._forget_unloaded()
        if not self.kept:
            self._take_out()
        # Also where the stand-ins stay: all modules of a run that bound an object that was made in
        # it, a lock or a local, must get the same real one in its place.
        self._scan(restoring=True)
        if self.kept:
            self._put_in()

    def _put_in(self) -> None:
        """Put every stand-in in whose place has the original, or the stand-in by an import."""
        for key, place in self._places.items():
            if key in self._installed:
                continue
            before = place.get()
            if type(before) in SHARED_TYPES and before is not place.original:
                # Bound anew by the module, which has not grown: no scan has seen it.
                made = self._stand_in_of(before)
                if made is not None:
                    place.original, place.stand_in = before, made
            if before is place.original:
                place.put(place.stand_in)
            elif before is not place.stand_in:
                continue
            self._installed[key] = place

    def _take_out(self) -> None:
        """Take every stand-in out."""
        while self._installed:
            _, place = self._installed.popitem()
            place.put(place.original)

    def keep(self) -> None:
        """Let the stand-ins stay between runs: they cost half of a short one."""
        self.kept += 1

    def let_go(self) -> None:
        """End a `keep`."""
        self.kept -= 1
        if not self.kept and not self.active:
            self._take_out()
            self._scan(restoring=True)

    def _forget_unloaded(self) -> None:
        """Let modules go that are not loaded any more: a host's program is one in each run."""
        loaded = {id(module) for module in sys.modules.values()}
        for number in [number for number in self._scanned if number not in loaded]:
            module, _ = self._scanned.pop(number)
            for name in list(vars(module)):
                place = self._places.pop((number, name), None)
                if place is not None and self._installed.pop((number, name), None) is not None:
                    place.put(place.original)

    def _stand_in_of(self, value: Any) -> Any:
        """Return the one stand-in for a lock or a local of a module's globals, if it has any."""
        known = self._stand_ins.get(id(value))
        if known is not None:
            return known[1]
        made = self._shared(value)
        if made is not None:
            self._stand_ins[id(value)] = (value, made)
            self._originals[id(made)] = (made, value)
        return made

    def _scan(self, *, restoring: bool = False) -> None:
        """Search the modules that are new or have grown."""
        scanned = self._scanned
        for name, module in list(sys.modules.items()):
            if type(module) is not ModuleType:
                # A lazy module would be loaded by a look at it.
                continue
            size = len(module.__dict__)
            known = scanned.get(id(module))
            if known is not None and known[0] is module and known[1] == size:
                continue
            scanned[id(module)] = (module, size)
            if not name.startswith(SKIPPED):
                self._scan_module(module, restoring)

    def _scan_module(self, module: ModuleType, restoring: bool) -> None:
        stand_ins, originals = self._stand_ins, self._originals
        namespace = module.__dict__
        for name, value in list(namespace.items()):
            if restoring and (made := self._real(value)) is not None:
                namespace[name] = value = made
            number = id(value)
            if number in stand_ins:
                original, stand_in = stand_ins[number]
            elif number in originals:
                # Bound during a run: by `from time import monotonic` of a module imported in it.
                stand_in, original = originals[number]
                if restoring and (id(module), name) not in self._installed:
                    namespace[name] = original
            elif type(value) in SHARED_TYPES and (made := self._stand_in_of(value)) is not None:
                original, stand_in = value, made
            else:
                continue
            if (id(module), name) not in self._places:
                self._places[id(module), name] = Place(module, name, original, stand_in)


SHARED_TYPES = (_thread.LockType, _thread.RLock, _thread._local)
