"""No Linux file: whether transactions could have run one after the other.

Facts: Adya describes an execution by its dependencies. T wrote a version that U read (wr), or U
overwrote (ww); T read a version that U overwrote (rw); T had ended before U began (rt, in a strict
order). The transactions are serializable if these edges have no cycle. Elle recovers the versions
from what was read: a list shows all the elements appended before, in their order.

Rule: a value is written once for each key, or the versions cannot be recovered. For lists the
longest that was read is the order; an element that no transaction read comes after it. For single
values the order of two writes is often unknown: for a reader T of W's version and another writer X,
X comes before W or after T (Papadimitriou's polygraph). What is forced is derived first, the rest
is tried; after `budget` derivations Undecided is raised.
Transactions that failed are left out: their writes must never be read. An unknown one took part if
one of its writes was read.

Left out: predicates and ranges; isolation levels below serializable, though a cycle is named.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .record import Operation, Status, Transaction, Undecided

BUDGET = 100_000

# The version of a key that no transaction wrote.
INITIAL = -1


class NotSerializable(AssertionError):
    """No order of the transactions gives what they read. `cycle` are those that contradict."""

    def __init__(self, words: str, cycle: list[Transaction]) -> None:
        super().__init__(words)
        self.cycle = cycle


@dataclass(frozen=True)
class _Choice:
    """`writer` wrote between neither: it comes before `source`, or after `reader`."""

    key: Hashable
    source: int
    reader: int
    writer: int


@dataclass
class _Graph:
    """The transactions that took part, and why one comes before another."""

    transactions: list[Transaction]
    edges: list[dict[int, tuple[str, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.edges = [{} for _ in self.transactions]

    def copy(self) -> _Graph:
        graph = _Graph(self.transactions)
        graph.edges = [dict(after) for after in self.edges]
        return graph

    def add(self, before: int, after: int, kind: str, words: str) -> None:
        if before != after:
            self.edges[before].setdefault(after, (kind, words))

    def reachable(self) -> list[int] | None:
        """Return for each node the bit set of those after it; None if there is a cycle."""
        incoming = [0] * len(self.edges)
        for targets in self.edges:
            for node in targets:
                incoming[node] += 1
        ready = [node for node, count in enumerate(incoming) if count == 0]
        order = []
        while ready:
            node = ready.pop()
            order.append(node)
            for after in self.edges[node]:
                incoming[after] -= 1
                if incoming[after] == 0:
                    ready.append(after)
        if len(order) < len(self.edges):
            return None
        reach = [0] * len(self.edges)
        for node in reversed(order):
            for after in self.edges[node]:
                reach[node] |= reach[after] | 1 << after
        return reach

    def path(self, begin: int, end: int) -> list[int] | None:
        """Return the shortest path, both ends included; a cycle if they are the same."""
        came: dict[int, int] = {}
        queue = deque([begin])
        while queue:
            node = queue.popleft()
            for after in self.edges[node]:
                if after == end:
                    path = [end, node]
                    while path[-1] != begin:
                        path.append(came[path[-1]])
                    return path[::-1]
                if after not in came and after != begin:
                    came[after] = node
                    queue.append(after)
        return None

    def shortest_cycle(self) -> list[int]:
        cycles = [self.path(node, node) for node in range(len(self.edges))]
        return min((cycle for cycle in cycles if cycle), key=len)


def serializable(
    history: Iterable[Operation],
    *,
    strict: bool = False,
    initial: Mapping[Hashable, Any] | None = None,
    budget: int = BUDGET,
) -> None:
    """Check that the transactions of `history` could have run one after the other.

    With `strict`, one that had ended before another began comes before it. `initial` has the values
    that keys had at first: None, or the empty list, if it has none.
    Raises NotSerializable with the cycle, and Undecided: after `budget` derivations, or where a
    value was written twice.
    """
    __tracebackhide__ = True
    transactions = [op for op in history if isinstance(op, Transaction)]
    graph, choices = _Checker(transactions, dict(initial or {})).graph(strict)
    if not _solve(graph, choices, budget):
        # No one cycle is the reason: several choices fail together.
        raise NotSerializable(
            "not serializable: each order of the writes leads to a cycle, though none is forced",
            graph.transactions,
        )


def _options(choice: _Choice) -> list[tuple[int, int, str, str]]:
    """The edges of which one holds: the writer before the source, or after the reader."""
    replaced = f"read the version of {choice.key} that was replaced by"
    options = [(choice.reader, choice.writer, "rw", replaced)]
    if choice.source != INITIAL:
        before = f"wrote a version of {choice.key} before that of"
        options.insert(0, (choice.writer, choice.source, "ww", before))
    return options


def _derive(graph: _Graph, choices: list[_Choice]) -> list[_Choice] | None:
    """Add the edges that are forced. Return the choices left, or None if there is a cycle."""
    while True:
        reach = graph.reachable()
        if reach is None:
            return None
        left = []
        for choice in choices:
            options = _options(choice)
            if any(reach[before] >> after & 1 for before, after, _, _ in options):
                continue
            possible = [o for o in options if not reach[o[1]] >> o[0] & 1]
            if len(possible) == 2:
                left.append(choice)
            else:
                # The one that is possible. If none is, the reader's one closes a cycle.
                graph.add(*(possible or options)[-1])
        if len(left) == len(choices):
            return left
        choices = left


def _by_end(graph: _Graph, choice: _Choice) -> list[tuple[int, int, str, str]]:
    """The options, the one that agrees with the order of the ends first."""
    options = _options(choice)
    writer, source = graph.transactions[choice.writer], graph.transactions[choice.source]
    is_before = (writer.returned or 0) < (source.returned or 0)
    return options if is_before else options[::-1]


def _solve(graph: _Graph, choices: list[_Choice], budget: int) -> bool:
    """Return whether some order holds. Raises NotSerializable if the facts alone contradict."""
    left = _derive(graph, choices)
    if left is None:
        raise _contradiction(graph)
    likely = graph.copy()
    for choice in left:
        likely.add(*_by_end(graph, choice)[0])
    if likely.reachable() is not None:
        return True
    attempts = [(graph, left)]
    while attempts:
        graph, choices = attempts.pop()
        budget -= 1
        if budget < 0:
            raise Undecided("undecided: the search for an order of writes has spent its budget")
        left = _derive(graph, choices)
        if left is None:
            continue
        if not left:
            return True
        for option in _by_end(graph, left[0])[::-1]:
            attempt = graph.copy()
            attempt.add(*option)
            attempts.append((attempt, left[1:]))
    return False


def _contradiction(graph: _Graph) -> NotSerializable:
    cycle = graph.shortest_cycle()
    kinds = [graph.edges[a][b][0] for a, b in itertools.pairwise(cycle)]
    lines = [f"not serializable: {_name(kinds)}"]
    names = {node: f"T{place}" for place, node in enumerate(cycle[:-1], 1)}
    lines += [f"  {names[node]} = {graph.transactions[node].words()}" for node in cycle[:-1]]
    for a, b in itertools.pairwise(cycle):
        kind, words = graph.edges[a][b]
        lines.append(f"  {names[a]} {words} {names[b]} ({kind})")
    return NotSerializable("\n".join(lines), [graph.transactions[node] for node in cycle[:-1]])


def _name(kinds: list[str]) -> str:
    """Adya's name of a cycle, in words."""
    strict = " in real time" if "rt" in kinds else ""
    match kinds.count("rw"), "wr" in kinds:
        case 0, False:
            return f"writes in a circle{strict} (G0)"
        case 0, True:
            return f"information in a circle{strict} (G1c)"
        case 1, _:
            return f"a read missed what it depends on{strict} (G-single)"
    return f"reads missed one another's writes{strict} (G2)"


class _Checker:
    """Recovers the versions of each key from what was read."""

    def __init__(self, transactions: list[Transaction], initial: dict[Hashable, Any]) -> None:
        self.initial = initial
        # (key, value) -> the transactions that wrote it, failed ones too.
        self.wrote: dict[tuple[Hashable, Any], Transaction] = {}
        # Only the last write of a transaction to a key is seen by others.
        self.last: dict[tuple[int, Hashable], Any] = {}
        steps = [(t, *step) for t in transactions for step in t.steps]
        self.lists = {key for _, kind, key, _ in steps if kind in ("append", "elements")}
        for transaction, kind, key, value in steps:
            if kind in ("write", "append"):
                if (key, value) in self.wrote or value == self.first(key):
                    raise Undecided(f"undecided: {value!r} was written to {key!r} twice, or first")
                self.wrote[key, value] = transaction
                self.last[transaction.number, key] = value
        self.part = self._took_part(transactions)
        self.index = {transaction.number: i for i, transaction in enumerate(self.part)}

    def _took_part(self, transactions: list[Transaction]) -> list[Transaction]:
        """The transactions that are known to have ended well, or were seen by such a one."""
        waiting = [t for t in transactions if t.is_certain]
        part = {t.number for t in waiting}
        while waiting:
            for kind, key, value in waiting.pop().steps:
                if kind in ("write", "append"):
                    continue
                for seen in (value or ()) if key in self.lists else (value,):
                    writer = self.wrote.get((key, seen))
                    if writer and writer.number not in part and writer.may_have_happened:
                        part.add(writer.number)
                        waiting.append(writer)
        return [t for t in transactions if t.number in part]

    def first(self, key: Hashable) -> Any:
        """The value that `key` had at first."""
        value = self.initial.get(key, () if key in self.lists else None)
        return tuple(value) if isinstance(value, list) else value

    def external_reads(self) -> list[tuple[int, Hashable, Any]]:
        """Reads of what others wrote. A transaction that misreads its own writes is refused."""
        reads = []
        for index, transaction in enumerate(self.part):
            known: dict[Hashable, Any] = {}
            own: dict[Hashable, tuple[Any, ...]] = {}
            for kind, key, value in transaction.steps:
                if key in self.lists and value is None:
                    value = ()
                if kind == "write":
                    known[key] = value
                elif kind == "append":
                    own[key] = (*own.get(key, ()), value)
                    if key in known:
                        known[key] = (*known[key], value)
                elif key in known:
                    if known[key] != value:
                        raise NotSerializable(
                            f"not serializable: a transaction read {key} = {value!r}, though it "
                            f"had {known[key]!r} before\n  {transaction.words()}",
                            [transaction],
                        )
                else:
                    known[key] = value
                    added = len(own.get(key, ()))
                    if added and value[-added:] != own[key]:
                        raise NotSerializable(
                            f"not serializable: a transaction read {key} = {value!r} without its "
                            f"own elements\n  {transaction.words()}",
                            [transaction],
                        )
                    reads.append((index, key, value[: len(value) - added] if added else value))
        return reads

    def writer_of(self, reader: int, key: Hashable, value: Any) -> int:
        """Return the index of the transaction whose `value` was read."""
        transaction = self.part[reader]
        writer = self.wrote.get((key, value))
        if writer is None:
            raise NotSerializable(
                f"not serializable: {key} = {value!r} was read, which no transaction wrote\n"
                f"  {transaction.words()}",
                [transaction],
            )
        if writer.status is Status.FAILED:
            raise NotSerializable(
                f"not serializable: {key} = {value!r} of a transaction that failed was read (G1a)\n"
                f"  {transaction.words()}\n  {writer.words()}",
                [transaction, writer],
            )
        if writer is transaction:
            raise NotSerializable(
                f"not serializable: {key} = {value!r} was read before it was written\n"
                f"  {transaction.words()}",
                [transaction],
            )
        return self.index[writer.number]

    def refuse_intermediate(self, reader: int, key: Hashable, value: Any, writer: int) -> None:
        """Refuse a version that its writer itself replaced."""
        other = self.part[writer]
        if writer != reader and self.last[other.number, key] != value:
            raise NotSerializable(
                f"not serializable: {key} = {value!r} was read, which its writer replaced (G1b)\n"
                f"  {self.part[reader].words()}\n  {other.words()}",
                [self.part[reader], other],
            )

    def graph(self, strict: bool) -> tuple[_Graph, list[_Choice]]:
        """Return the edges that are certain, and the choices between two."""
        graph = _Graph(self.part)
        reads: dict[Hashable, list[tuple[int, Any]]] = {}
        for reader, key, value in self.external_reads():
            reads.setdefault(key, []).append((reader, value))
        keys = dict.fromkeys([key for key, _ in self.wrote] + list(reads))
        choices: list[_Choice] = []
        for key in keys:
            if key in self.lists:
                self._list(graph, key, reads.get(key, []))
            else:
                choices += self._register(graph, key, reads.get(key, []))
        if strict:
            self._real_time(graph)
        return graph, choices

    def _writers(self, key: Hashable, without: tuple[Any, ...] = ()) -> list[int]:
        """The transactions that wrote `key` and took part, but for some values; each once."""
        left_out = set(without)
        found = [
            self.index[writer.number]
            for (other, value), writer in self.wrote.items()
            if other == key and writer.number in self.index and value not in left_out
        ]
        return list(dict.fromkeys(found))

    def _register(
        self, graph: _Graph, key: Hashable, reads: list[tuple[int, Any]]
    ) -> list[_Choice]:
        writers = self._writers(key)
        choices = []
        for reader, value in reads:
            source = INITIAL
            if value != self.first(key) or (key, value) in self.wrote:
                source = self.writer_of(reader, key, value)
                self.refuse_intermediate(reader, key, value, source)
                graph.add(source, reader, "wr", f"wrote {key} = {value!r}, which was read by")
            choices += [
                _Choice(key, source, reader, writer)
                for writer in writers
                if writer not in (source, reader)
            ]
            if reader in writers and source not in (INITIAL, reader):
                graph.add(source, reader, "ww", f"wrote {key} = {value!r}, which was replaced by")
        return choices

    def _list(self, graph: _Graph, key: Hashable, reads: list[tuple[int, Any]]) -> None:
        first = self.first(key)
        longest_reader, longest = max(reads, key=lambda read: len(read[1]), default=(0, first))
        for reader, value in reads:
            if value != longest[: len(value)] or value[: len(first)] != first:
                raise NotSerializable(
                    f"not serializable: two reads of {key} have no common order\n"
                    f"  {self.part[reader].words()}\n  {self.part[longest_reader].words()}",
                    [self.part[reader], self.part[longest_reader]],
                )
        order = [self.writer_of(longest_reader, key, e) for e in longest[len(first) :]]
        if len(set(longest)) < len(longest):
            raise NotSerializable(
                f"not serializable: an element of {key} was read twice: {longest!r}\n"
                f"  {self.part[longest_reader].words()}",
                [self.part[longest_reader]],
            )
        unread = self._writers(key, without=longest)
        for before, after in itertools.pairwise(order):
            graph.add(before, after, "ww", f"appended to {key} before")
        if order:
            for writer in unread:
                graph.add(order[-1], writer, "ww", f"appended to {key} before")
        for reader, value in reads:
            seen = len(value) - len(first)
            for element in value[len(first) :]:
                self.writer_of(reader, key, element)
            if seen:
                writer = order[seen - 1]
                self.refuse_intermediate(reader, key, value[-1], writer)
                graph.add(writer, reader, "wr", f"appended {value[-1]!r} to {key}, read by")
            for after in order[seen : seen + 1] or unread:
                graph.add(reader, after, "rw", f"read {key} without the element of")

    def _real_time(self, graph: _Graph) -> None:
        """Add the edges of real time, without those that follow from others."""
        ended = sorted(
            (t.returned, t.invoked, i)
            for i, t in enumerate(self.part)
            if t.is_certain and t.returned is not None
        )
        for index, transaction in enumerate(self.part):
            before = [entry for entry in ended if entry[0] < transaction.invoked]
            latest_begin = max((invoked for _, invoked, _ in before), default=0)
            for returned, _, other in before:
                if returned >= latest_begin:
                    graph.add(other, index, "rt", "had ended before the beginning of")
