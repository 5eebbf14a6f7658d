"""No Linux file: what clients asked a system for, and what it gave back.

Facts: a history is a list of operations. Each has a beginning and, mostly, an end; it took effect
between the two. Virtual time stands still while code runs, so two events may have one time: their
order is that in which they were recorded.

Rule: an operation ends in one of three ways. `ok`: it took effect, and `result` is what it gave.
`fail`: it certainly took no effect. `unknown`: a time-out, a lost connection, a crash; it may take
effect at any later time, or never. An operation that never ended is unknown too.

Left out: a check. `linearizable` and `serializable` look at a history when it is complete.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .models import Model

T = TypeVar("T")


class Undecided(RuntimeError):
    """The search was given up: its budget is spent, or the history does not determine an order."""


class Status(enum.Enum):
    """How an operation ended."""

    PENDING = "pending"
    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(eq=False)
class Operation:
    """One call of a client. `invoked` and `returned` order the events of the history."""

    history: History = field(repr=False)
    number: int
    client: Hashable
    function: str
    arguments: tuple[Any, ...]
    invoked: int
    invoked_s: float
    status: Status = Status.PENDING
    result: Any = None
    returned: int | None = None
    returned_s: float | None = None

    def ok(self, result: Any = None) -> None:
        """Note that the operation took effect and gave `result`."""
        self._end(Status.OK)
        self.result = result

    def fail(self) -> None:
        """Note that the operation took no effect and will take none."""
        self._end(Status.FAILED)

    def unknown(self) -> None:
        """Note that the operation may have taken effect, or may still do so."""
        self._end(Status.UNKNOWN)

    def _end(self, status: Status) -> None:
        if self.status is not Status.PENDING:
            raise RuntimeError(f"{self.words()} has ended before")
        self.status = status
        self.returned = self.history.next_event()
        self.returned_s = self.history.now_s()

    @property
    def is_certain(self) -> bool:
        """Whether it is known that the operation took effect."""
        return self.status is Status.OK

    @property
    def may_have_happened(self) -> bool:
        """Whether the operation took effect or may do so."""
        return self.status is not Status.FAILED

    def overlaps(self, other: Operation) -> bool:
        """Return whether neither operation had ended before the other began."""
        return not (self.precedes(other) or other.precedes(self))

    def precedes(self, other: Operation) -> bool:
        """Return whether the operation had ended, for certain, before `other` began."""
        return self.is_certain and self.returned is not None and self.returned < other.invoked

    def call_text(self) -> str:
        """Return the call alone: `get('x')`."""
        return f"{self.function}({', '.join(repr(argument) for argument in self.arguments)})"

    def call_words(self, *, hide_none: bool = False) -> str:
        """Return the call and its result: `get('x') -> 1`. A result of None may be left out."""
        call = self.call_text()
        if self.status is Status.OK:
            return call if hide_none and self.result is None else f"{call} -> {self.result!r}"
        return f"{call} -> {self.status.value if self.status is Status.FAILED else 'unknown'}"

    def words(self, *, hide_none: bool = False) -> str:
        """Return the client, the call and the seconds of its beginning and end."""
        begin = f"{self.invoked_s:.6f}"
        known = self.status is Status.OK and self.returned_s is not None
        end = f"{(self.returned_s or 0):.6f} s" if known else "no known end"
        return f"{self.client}: {self.call_words(hide_none=hide_none)} [{begin} to {end}]"


@dataclass(eq=False)
class Transaction(Operation):
    """An operation of several steps on keys.

    `steps` are (kind, key, value). The kinds are read, elements (of a list), write and append.
    """

    steps: list[tuple[str, Hashable, Any]] = field(default_factory=list)

    def read(self, key: Hashable, value: Any) -> None:
        """Note that the transaction saw `value` at `key`: of a list, all elements."""
        if isinstance(value, list):
            self.steps.append(("elements", key, tuple(value)))
        else:
            self.steps.append(("read", key, value))

    def write(self, key: Hashable, value: Hashable) -> None:
        """Note that the transaction set `key` to `value`. A key gets each value once only."""
        self.steps.append(("write", key, value))

    def append(self, key: Hashable, element: Hashable) -> None:
        """Note that the transaction added `element` to the list at `key`, once only."""
        self.steps.append(("append", key, element))

    def call_text(self) -> str:
        """Return the steps: `read x = 1, write y = 2`."""
        words = {"read": "read {} = {!r}", "elements": "read {} = {!r}", "write": "write {} = {!r}"}
        return ", ".join(
            words.get(kind, "append {1!r} to {0}").format(key, value)
            for kind, key, value in self.steps
        )

    def call_words(self, *, hide_none: bool = True) -> str:
        """Return the steps, and how the transaction ended unless it did well."""
        return super().call_words(hide_none=True)


class History:
    """The operations of all clients. `now` gives seconds; without it, events are counted."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self.operations: list[Operation] = []
        self._events = itertools.count(1)
        self._last_event = 0
        self.now_s: Callable[[], float] = now or (lambda: float(self._last_event))

    def next_event(self) -> int:
        """Return the number of an event that happens now."""
        self._last_event = next(self._events)
        return self._last_event

    def invoke(self, client: Hashable, function: str, *arguments: Any) -> Operation:
        """Begin an operation. The caller ends it with `ok`, `fail` or `unknown`."""
        operation = Operation(
            history=self,
            number=len(self.operations),
            client=client,
            function=function,
            arguments=arguments,
            invoked=self.next_event(),
            invoked_s=self.now_s(),
        )
        self.operations.append(operation)
        return operation

    def transaction(self, client: Hashable) -> Transaction:
        """Begin a transaction. The caller notes its steps, and ends it."""
        transaction = Transaction(
            history=self,
            number=len(self.operations),
            client=client,
            function="transaction",
            arguments=(),
            invoked=self.next_event(),
            invoked_s=self.now_s(),
        )
        self.operations.append(transaction)
        return transaction

    async def call(
        self,
        client: Hashable,
        function: str,
        *arguments: Any,
        call: Awaitable[T],
        failures: tuple[type[BaseException], ...] = (),
    ) -> T:
        """Record `call`, and return its result.

        An exception of `failures` says that nothing took effect; after any other exception the
        operation is unknown. The exception goes on to the caller.
        """
        operation = self.invoke(client, function, *arguments)
        try:
            result = await call
        except failures:
            operation.fail()
            raise
        except BaseException:
            operation.unknown()
            raise
        operation.ok(result)
        return result

    def linearizable(self, model: Model | None = None, *, budget: int | None = None) -> None:
        """Raise NotLinearizable or Undecided, see `linearizable`."""
        __tracebackhide__ = True
        from .linearize import BUDGET, linearizable

        linearizable(self, model, budget=budget or BUDGET)

    def serializable(
        self,
        *,
        strict: bool = False,
        initial: Mapping[Hashable, Any] | None = None,
        budget: int | None = None,
    ) -> None:
        """Raise NotSerializable or Undecided, see `serializable`."""
        __tracebackhide__ = True
        from .serialize import BUDGET, serializable

        serializable(self, strict=strict, initial=initial, budget=budget or BUDGET)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __len__(self) -> int:
        return len(self.operations)
