"""No Linux file: whether a history could be that of an object which does one thing at a time.

Facts: Herlihy and Wing call a history linearizable if each operation can be given one moment
between its beginning and its end, so that the operations, one after the other, give the results
that were seen. Wing and Gong search for the order; Lowe remembers which pairs (operations done,
state) led nowhere. A history is linearizable if that of each key is, and so is each beginning of a
linearizable history: the smallest beginning that fails is found by bisection.

Rule: operations that failed are left out. An unknown one may come at any time after its
beginning, or never; an unknown read says nothing. A search that needs more than `budget`
operations of the model raises Undecided: it is neither a pass nor a failure.

Left out: weaker conditions, sequential consistency among them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .models import ANY, KeyValue, Model
from .record import Operation, Undecided

BUDGET = 1_000_000
SHOWN_MAX = 12


class NotLinearizable(AssertionError):
    """No order of the operations gives their results. `prefix` is the smallest part that fails."""

    def __init__(self, words: str, prefix: list[Operation]) -> None:
        super().__init__(words)
        self.prefix = prefix


@dataclass(eq=False)
class _Event:
    """A beginning (with its place in the bit set) or an end, in a list with links both ways."""

    operation: Operation
    bit: int = 0
    end: _Event | None = None
    is_end: bool = False
    before: _Event | None = None
    after: _Event | None = None

    def lift(self) -> None:
        """Take the beginning and its end out of the list."""
        for event in (self, self.end):
            if event is not None:
                assert event.before is not None
                event.before.after = event.after
                if event.after is not None:
                    event.after.before = event.before

    def unlift(self) -> None:
        """Put the end and the beginning back where they were."""
        for event in (self.end, self):
            if event is not None:
                assert event.before is not None
                event.before.after = event
                if event.after is not None:
                    event.after.before = event


@dataclass
class _Search:
    """One key's operations. `cut` is the event after which nothing is known."""

    model: Model
    operations: list[Operation]
    budget: int
    cut: int | None = None
    best: list[Operation] = field(default_factory=list)
    # What the model gave where the operation of the cut was tried.
    expected: list[Any] = field(default_factory=list)

    def is_certain(self, operation: Operation) -> bool:
        return operation.is_certain and (self.cut is None or (operation.returned or 0) <= self.cut)

    def events(self) -> tuple[_Event, int]:
        """Return the head of the list and the number of operations that must be placed."""
        points: list[tuple[int, _Event]] = []
        certain = 0
        for operation in self.operations:
            if self.cut is not None and operation.invoked > self.cut:
                continue
            is_certain = self.is_certain(operation)
            if not is_certain and operation.function in self.model.reads:
                continue
            begin = _Event(operation)
            points.append((operation.invoked, begin))
            if is_certain:
                certain += 1
                begin.end = _Event(operation, is_end=True)
                points.append((operation.returned or 0, begin.end))
        points.sort(key=lambda point: point[0])
        head = last = _Event(self.operations[0])
        bit = 1
        for _, event in points:
            if not event.is_end:
                event.bit = bit
                bit <<= 1
            last.after, event.before = event, last
            last = event
        return head, certain

    def spend(self) -> None:
        self.budget -= 1
        if self.budget < 0:
            raise Undecided(
                f"undecided: the search of {len(self.operations)} operations "
                f"({sum(not self.is_certain(op) for op in self.operations)} unknown) has spent its "
                "budget; give a larger one, more keys or fewer concurrent operations"
            )

    def run(self) -> bool:
        """Return whether there is an order."""
        head, left = self.events()
        state: Hashable = self.model.initial()
        done = 0
        seen: set[tuple[int, Hashable]] = set()
        path: list[tuple[_Event, Hashable]] = []
        event = head.after
        while left:
            if event is not None and not event.is_end:
                self.spend()
                operation = event.operation
                step = self.model.apply(state, operation)
                if step is not None and self._agrees(operation, event.end is not None, step[1]):
                    place = (done | event.bit, step[0])
                    if place not in seen:
                        seen.add(place)
                        path.append((event, state))
                        done, state = place
                        left -= event.end is not None
                        event.lift()
                        if len(path) > len(self.best):
                            self.best = [placed.operation for placed, _ in path]
                        event = head.after
                        continue
                event = event.after
                continue
            # An operation has ended that no order so far has placed, or all is tried: go back.
            if not path:
                return False
            placed, state = path.pop()
            done &= ~placed.bit
            left += placed.end is not None
            placed.unlift()
            event = placed.after
        return True

    def _agrees(self, operation: Operation, is_certain: bool, result: Any) -> bool:
        if not is_certain or self.model.agrees(operation, result):
            return True
        if operation.returned == self.cut and result is not ANY and result not in self.expected:
            self.expected.append(result)
        return False


def linearizable(
    history: Iterable[Operation], model: Model | None = None, *, budget: int = BUDGET
) -> None:
    """Check that `history` is one of `model`, by default a map of keys to values.

    Raises NotLinearizable, whose text says which operations contradict one another, and Undecided
    where a key needs more than `budget` operations of the model.
    """
    __tracebackhide__ = True
    model = model or KeyValue()
    keys: dict[Hashable, list[Operation]] = {}
    for operation in history:
        if operation.may_have_happened:
            keys.setdefault(model.key(operation), []).append(operation)
    for key, operations in keys.items():
        if not _Search(model, operations, budget).run():
            _fail(model, key, operations, budget)


def _fail(model: Model, key: Hashable, operations: list[Operation], budget: int) -> None:
    """Raise NotLinearizable for the smallest prefix. Its end is that of a known operation."""
    __tracebackhide__ = True
    ends = sorted(op.returned for op in operations if op.is_certain and op.returned is not None)
    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        if _Search(model, operations, budget, cut=ends[middle]).run():
            low = middle + 1
        else:
            high = middle
    search = _Search(model, operations, budget, cut=ends[low])
    assert not search.run()
    raise NotLinearizable(_words(search, key, len(operations)), _prefix(search))


def _prefix(search: _Search) -> list[Operation]:
    return [op for op in search.operations if op.invoked <= (search.cut or 0)]


def _text(search: _Search, operation: Operation) -> str:
    return operation.words(hide_none=operation.function in search.model.writes)


def _seen_then(search: _Search, operation: Operation) -> str:
    """The words of an operation, as far as they were known at the cut."""
    if search.is_certain(operation):
        return _text(search, operation)
    state = "under way" if operation.is_certain else "unknown"
    return f"{operation.client}: {operation.call_text()} [{operation.invoked_s:.6f}, {state}]"


def _call_then(search: _Search, operation: Operation) -> str:
    """The call, with its result if it was known at the cut."""
    if not search.is_certain(operation):
        return f"{operation.client} {operation.call_text()}"
    words = operation.call_words(hide_none=operation.function in search.model.writes)
    return f"{operation.client} {words}"


def _words(search: _Search, key: Hashable, total: int) -> str:
    prefix = _prefix(search)
    last = next(op for op in prefix if op.returned == search.cut and op.is_certain)
    of_key = "" if key is None else f" of {key!r}"
    lines = [
        f"not linearizable: {_text(search, last)} fits no order",
        f"  the first {len(prefix)} of {total} operations{of_key} fail, no fewer do",
    ]
    if search.expected:
        given = " or ".join(repr(result) for result in search.expected[:SHOWN_MAX])
        lines.append(f"  where it could take place, the result would have been {given}")
    overlapping = [op for op in prefix if op is not last and op.overlaps(last)]
    if overlapping:
        lines.append("  it overlaps:")
        lines += [f"    {_seen_then(search, op)}" for op in overlapping[:SHOWN_MAX]]
    else:
        lines.append("  it overlaps no other operation")
    earlier = [op for op in prefix if op is not last and op.precedes(last)]
    earlier.sort(key=lambda op: op.returned or 0)
    if len(earlier) > SHOWN_MAX:
        lines.append(f"  {len(earlier) - SHOWN_MAX} earlier operations, and then:")
    elif earlier:
        lines.append("  before it:")
    lines += [f"    {_text(search, op)}" for op in earlier[-SHOWN_MAX:]]
    if search.best:
        order = "; ".join(_call_then(search, op) for op in search.best[-SHOWN_MAX:])
        lines.append(f"  the longest order that fits{_dots(search.best)}: {order}")
    return "\n".join(lines)


def _dots(best: list[Operation]) -> str:
    return f" ends with (of {len(best)})" if len(best) > SHOWN_MAX else ""
