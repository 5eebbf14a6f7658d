"""No Linux file: objects that do one operation after the other, to compare a history with.

Rule: `apply` takes the state and an operation, and returns the next state and the result that the
object gives. ANY stands for a result that is not looked at. None instead of a pair says that the
operation cannot take place in that state: it waits. States are hashable, and never changed.
A result of None that a client recorded for a function of `writes` is not compared either.

Left out: objects that may choose one of several results.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

from .record import Operation

State = Hashable


class _Any:
    def __repr__(self) -> str:
        return "any result"


ANY: Final = _Any()


class Model:
    """A sequential object. A subclass has `initial` and `apply`; the rest makes checks faster."""

    # Functions that leave the state as it is: an unknown one says nothing.
    reads: frozenset[str] = frozenset()
    # Functions whose result may be left out of the history.
    writes: frozenset[str] = frozenset()

    def initial(self) -> State:
        """Return the state before the first operation."""
        raise NotImplementedError

    def apply(self, state: Any, operation: Operation) -> tuple[State, Any] | None:
        """Return the next state and the result; None if the operation has to wait."""
        raise NotImplementedError

    def key(self, operation: Operation) -> Hashable:
        """Return the object that the operation is about: each one is checked by itself."""
        return None

    def agrees(self, operation: Operation, result: Any) -> bool:
        """Return whether `result` of the model is the one that the client got."""
        if result is ANY or (operation.result is None and operation.function in self.writes):
            return True
        return bool(operation.result == result)


def unknown_function(model: Model, operation: Operation) -> ValueError:
    return ValueError(f"{type(model).__name__} has no function {operation.function!r}")


class Register(Model):
    """One value: `read()` and `write(value)`."""

    reads: frozenset[str] = frozenset({"read"})
    writes: frozenset[str] = frozenset({"write"})

    def __init__(self, initial: Hashable = None) -> None:
        self.value = initial

    def initial(self) -> State:
        return self.value

    def apply(self, state: Any, operation: Operation) -> tuple[State, Any] | None:
        match operation.function, operation.arguments:
            case "read", ():
                return state, state
            case "write", (value,):
                return value, ANY
        raise unknown_function(self, operation)


class CasRegister(Register):
    """A register that also has `cas(old, new)`, with a bool as its result."""

    def apply(self, state: Any, operation: Operation) -> tuple[State, Any] | None:
        match operation.function, operation.arguments:
            case "cas", (old, new):
                return (new, True) if state == old else (state, False)
        return super().apply(state, operation)


class KeyValue(Model):
    """A map: `get(key)`, `put(key, value)`, `delete(key)`, `cas(key, old, new)`."""

    reads: frozenset[str] = frozenset({"get"})
    writes: frozenset[str] = frozenset({"put", "delete"})

    def __init__(self, initial: Hashable = None) -> None:
        self.value = initial

    def initial(self) -> State:
        return self.value

    def key(self, operation: Operation) -> Hashable:
        key: Hashable = operation.arguments[0]
        return key

    def apply(self, state: Any, operation: Operation) -> tuple[State, Any] | None:
        match operation.function, operation.arguments:
            case "get", (_,):
                return state, state
            case "put", (_, value):
                return value, ANY
            case "delete", (_,):
                return None, ANY
            case "cas", (_, old, new):
                return (new, True) if state == old else (state, False)
        raise unknown_function(self, operation)


class Counter(Model):
    """A number: `read()`, and `add(n)`, `increment()` with the new value as their result."""

    reads: frozenset[str] = frozenset({"read"})
    writes: frozenset[str] = frozenset({"add", "increment"})

    def __init__(self, initial: int = 0) -> None:
        self.value = initial

    def initial(self) -> State:
        return self.value

    def apply(self, state: Any, operation: Operation) -> tuple[State, Any] | None:
        match operation.function, operation.arguments:
            case "read", ():
                return state, state
            case "add", (n,):
                return state + n, state + n
            case "increment", ():
                return state + 1, state + 1
        raise unknown_function(self, operation)


class Queue(Model):
    """First in, first out: `enqueue(value)`; `dequeue()` gives None where it is empty."""

    writes: frozenset[str] = frozenset({"enqueue"})

    def initial(self) -> State:
        return ()

    def apply(self, state: Any, operation: Operation) -> tuple[State, Any] | None:
        match operation.function, operation.arguments:
            case "enqueue", (value,):
                return (*state, value), ANY
            case "dequeue", ():
                return (state[1:], state[0]) if state else (state, None)
        raise unknown_function(self, operation)


class Lock(Model):
    """A lock: `acquire()` waits, `try_acquire()` gives a bool, `release()` is the holder's."""

    writes: frozenset[str] = frozenset({"acquire", "release"})

    def initial(self) -> State:
        return None

    def apply(self, state: Any, operation: Operation) -> tuple[State, Any] | None:
        holder = (operation.client,)
        match operation.function, operation.arguments:
            case "acquire", ():
                return (holder, ANY) if state is None else None
            case "try_acquire", ():
                return (holder, True) if state is None else (state, False)
            case "release", ():
                return (None, ANY) if state == holder else None
        raise unknown_function(self, operation)


class Set(Model):
    """A set: `add(value)`, `remove(value)`, `contains(value)` and `members()`."""

    reads: frozenset[str] = frozenset({"contains", "members"})
    writes: frozenset[str] = frozenset({"add", "remove"})

    def initial(self) -> State:
        return frozenset()

    def apply(self, state: Any, operation: Operation) -> tuple[State, Any] | None:
        match operation.function, operation.arguments:
            case "add", (value,):
                return state | {value}, value not in state
            case "remove", (value,):
                return state - {value}, value in state
            case "contains", (value,):
                return state, value in state
            case "members", ():
                return state, state
        raise unknown_function(self, operation)
