"""Stand-ins for the ordinary names: inside a world the simulated call, elsewhere the original.

Facts: a function of Python binds when a class holds it, a builtin does not. So `clock =
time.monotonic` in a class body works with a builtin, and would break with a function. A class
that code compares, subclasses or asks `isinstance` of must stay a class.

Rule: a stand-in for a function is an object that calls and does not bind. A stand-in for a class
is a class whose metaclass looks like the original. Which of the two a call means is decided when
it is made, by the host of the calling thread.
Left out: stand-ins that know their module was imported before the run: patching.py does that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from .. import inside

# What a part of this package offers: (owner, name, make), make(original) -> stand-in.
Replacement = tuple[Any, str, Callable[[Any], Any]]
# What a run starts anew with: (owner, name, make), make() -> value.
Value = tuple[Any, str, Callable[[], Any]]


class Dispatcher:
    """A function's stand-in: `simulated(host, …)` inside a world, else `original(…)`."""

    def __init__(self, original: Any, simulated: Callable[..., Any]) -> None:
        self.original: Any = original
        self.simulated = simulated
        self.__qualname__: str
        functools.update_wrapper(self, original, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        host = inside.host()
        if host is None:
            return self.original(*args, **kwargs)
        return self.simulated(host, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<simulated {self.original!r}>"

    def __reduce__(self) -> str:
        # Pickled by its name, as the original is.
        return str(self.__qualname__)


def function(simulated: Callable[..., Any]) -> Callable[[Any], Dispatcher]:
    """Return the `make` of a replacement whose simulated call takes the host first."""
    return lambda original: Dispatcher(original, simulated)


def method(simulated: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return the `make` for a method of a class: `simulated(host, original, self, …)`."""

    def make(original: Any) -> Any:
        @functools.wraps(original)
        def dispatching(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            host = inside.host()
            if host is None:
                return original(self, *args, **kwargs)
            return simulated(host, original, self, *args, **kwargs)

        return dispatching

    return make


def functions(owner: Any, table: dict[str, Callable[..., Any]]) -> Iterable[Replacement]:
    """Yield replacements for those names in `table` that `owner` has in this version."""
    for name, simulated in table.items():
        if hasattr(owner, name):
            yield owner, name, function(simulated)


class Lookalike(type):
    """The class of stand-ins for classes: equal to the original, and so are their instances.

    `original` is the class that is replaced. `kinds` are the classes whose objects count as its
    instances. `simulate(host, …)` makes an object inside; without one the class makes it itself.
    """

    original: type
    kinds: tuple[type, ...]
    simulate: Callable[..., Any] | None

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if "original" not in cls.__dict__:
            # A subclass that the program made.
            return super().__call__(*args, **kwargs)
        host = inside.host()
        if host is None:
            return cls.original(*args, **kwargs)
        if cls.simulate is None:
            return super().__call__(*args, **kwargs)
        return cls.simulate(host, *args, **kwargs)

    def __instancecheck__(cls, instance: Any) -> bool:
        if "original" in cls.__dict__ and isinstance(instance, cls.kinds):
            return True
        return super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        # By the bases alone: an abstract class asks its subclasses, of which this is one.
        if "original" in cls.__dict__ and any(kind in subclass.__mro__ for kind in cls.kinds):
            return True
        return super().__subclasscheck__(subclass)

    def __eq__(cls, other: object) -> bool:
        return cls is other or other is cls.__dict__.get("original", cls)

    def __hash__(cls) -> int:
        original = cls.__dict__.get("original")
        return super().__hash__() if original is None else hash(original)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__abstract"):
            raise AttributeError(name)
        return getattr(cls.original, name)


def lookalike(
    original: type,
    simulate: Callable[..., Any] | None,
    *kinds: type,
    bases: tuple[type, ...] = (),
    namespace: dict[str, Any] | None = None,
) -> Any:
    """Return a stand-in for the class `original`; its simulated objects are of `kinds`."""
    return Lookalike(
        original.__name__,
        bases,
        {
            **(namespace or {}),
            "__module__": original.__module__,
            "__qualname__": original.__qualname__,
            "__doc__": original.__doc__,
            "original": original,
            "kinds": (original, *kinds),
            "simulate": None if simulate is None else staticmethod(simulate),
        },
    )
