"""Histories are judged as a search through all orders judges them, and known ones as in books."""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from aiopoll.sim import history as checks
from aiopoll.sim.history import (
    CasRegister,
    Counter,
    History,
    KeyValue,
    Lock,
    Model,
    NotLinearizable,
    NotSerializable,
    Operation,
    Queue,
    Register,
    Set,
    Status,
    Transaction,
    Undecided,
    linearizable,
    serializable,
)
from aiopoll.sim.run import run_once
from aiopoll.sim.tape import tape_of
from aiopoll.sim.world import World

# (client, function, arguments, begin, end, result): an end of None is unknown.
Row = tuple[str, str, tuple[Any, ...], int, int | None, Any]


def history_of(rows: Iterable[Row]) -> History:
    """Record the rows in the order of their times. No two times may be the same."""
    points: list[tuple[int, Callable[[], None]]] = []
    history = History()
    begun: dict[int, Operation] = {}

    def begin(number: int, row: Row) -> None:
        begun[number] = history.invoke(row[0], row[1], *row[2])

    for number, row in enumerate(rows):
        points.append((row[3], lambda number=number, row=row: begin(number, row)))  # type: ignore[misc]
        if row[4] is not None:
            points.append((row[4], lambda number=number, row=row: begun[number].ok(row[5])))  # type: ignore[misc]
    for _, run in sorted(points, key=lambda point: point[0]):
        run()
    return history


def orders(operations: list[Operation]) -> Iterable[tuple[Operation, ...]]:
    """All orders of the certain operations with any of the unknown ones among them."""
    certain = [op for op in operations if op.is_certain]
    unknown = [op for op in operations if not op.is_certain and op.may_have_happened]
    for count in range(len(unknown) + 1):
        for chosen in itertools.combinations(unknown, count):
            yield from itertools.permutations(certain + list(chosen))


def keeps_time(order: tuple[Operation, ...]) -> bool:
    return not any(b.precedes(a) for a, b in itertools.combinations(order, 2))


def linearizable_by_force(operations: list[Operation], model: Model) -> bool:
    def fits(order: tuple[Operation, ...]) -> bool:
        state = model.initial()
        for operation in order:
            step = model.apply(state, operation)
            if step is None or (operation.is_certain and not model.agrees(operation, step[1])):
                return False
            state = step[0]
        return keeps_time(order)

    return any(fits(order) for order in orders(operations))


def passes(check: Callable[..., None], *arguments: Any, **options: Any) -> bool:
    try:
        check(*arguments, **options)
    except (NotLinearizable, NotSerializable):
        return False
    return True


CALLS: dict[str, tuple[Model, Callable[[random.Random], tuple[str, tuple[Any, ...], Any]]]] = {
    "register": (
        CasRegister(),
        lambda r: r.choice(
            [
                ("read", (), r.choice([None, 1, 2])),
                ("write", (r.randint(1, 2),), None),
                ("cas", (r.choice([None, 1, 2]), r.randint(1, 2)), r.random() < 0.5),
            ]
        ),
    ),
    "counter": (
        Counter(),
        lambda r: r.choice([("increment", (), r.randint(1, 3)), ("read", (), r.randint(0, 3))]),
    ),
    "queue": (
        Queue(),
        lambda r: r.choice(
            [("enqueue", (r.randint(1, 2),), None), ("dequeue", (), r.choice([None, 1, 2]))]
        ),
    ),
    "lock": (
        Lock(),
        lambda r: r.choice(
            [
                ("acquire", (), None),
                ("release", (), None),
                ("try_acquire", (), r.random() < 0.5),
            ]
        ),
    ),
    "set": (
        Set(),
        lambda r: r.choice([("add", (1,), r.random() < 0.5), ("contains", (1,), r.random() < 0.5)]),
    ),
}


def random_operations(rng: random.Random, model: str, count: int) -> History:
    rows: list[Row] = []
    times = rng.sample(range(1000), 2 * count)
    for number in range(count):
        begin, end = sorted(times[2 * number : 2 * number + 2])
        function, arguments, result = CALLS[model][1](rng)
        unknown = rng.random() < 0.2
        client = f"c{rng.randint(0, 2)}"
        rows.append((client, function, arguments, begin, None if unknown else end, result))
    return history_of(rows)


@pytest.mark.parametrize("name", CALLS)
def test_linearizable_agrees_with_brute_force(name: str) -> None:
    rng = random.Random(name)
    model = CALLS[name][0]
    seen = set()
    for _ in range(250):
        history = random_operations(rng, name, rng.randint(1, 5))
        expected = linearizable_by_force(history.operations, model)
        assert passes(linearizable, history, model) is expected, history.operations
        seen.add(expected)
    assert seen == {True, False}


@pytest.mark.parametrize("name", CALLS)
def test_counterexample_is_the_smallest_prefix(name: str) -> None:
    rng = random.Random(name)
    model = CALLS[name][0]
    found = 0
    while found < 30:
        history = random_operations(rng, name, 5)
        try:
            linearizable(history, model)
        except NotLinearizable as error:
            found += 1
            cut = len(error.prefix)
            ends = sorted(op.returned for op in error.prefix if op.returned is not None)
            fails = [
                end
                for end in ends
                if not linearizable_by_force(cut_at(history, end).operations, model)
            ]
            first = min(fails)
            assert cut == sum(op.invoked <= first for op in history)


def cut_at(history: History, event: int) -> History:
    """What was known of the history at the event."""
    short = History()
    for operation in history:
        if operation.invoked > event:
            continue
        copy = short.invoke(operation.client, operation.function, *operation.arguments)
        copy.invoked = operation.invoked
        if operation.is_certain and operation.returned is not None and operation.returned <= event:
            copy.status, copy.result = operation.status, operation.result
            copy.returned = operation.returned
    return short


def test_read_of_an_old_value_is_explained() -> None:
    history = history_of(
        [
            ("a", "put", ("x", 1), 1, 2, None),
            ("b", "put", ("x", 2), 3, 4, None),
            ("c", "get", ("x",), 5, 7, 1),
            ("a", "get", ("y",), 6, 8, None),
        ]
    )
    with pytest.raises(NotLinearizable) as raised:
        linearizable(history)
    text = str(raised.value)
    assert "c: get('x') -> 1 [5.000000 to 7.000000 s] fits no order" in text
    assert "the first 3 of 3 operations of 'x' fail" in text
    assert "the result would have been 2" in text
    assert [op.client for op in raised.value.prefix] == ["a", "b", "c"]


def test_two_readers_may_not_see_two_orders() -> None:
    # Both reads overlap the write; the one that ended first saw it, the later one did not.
    rows: list[Row] = [
        ("w", "write", (1,), 1, 10, None),
        ("a", "read", (), 2, 3, 1),
        ("b", "read", (), 4, 5, None),
    ]
    with pytest.raises(NotLinearizable, match="it overlaps:\n    w: write") as raised:
        linearizable(history_of(rows), Register())
    assert "under way" in str(raised.value)
    rows[2] = ("b", "read", (), 4, 5, 1)
    linearizable(history_of(rows), Register())


def test_unknown_write_may_take_effect_much_later() -> None:
    rows: list[Row] = [
        ("w", "write", (1,), 1, None, None),
        ("a", "read", (), 2, 3, None),
        ("a", "read", (), 4, 5, 1),
    ]
    linearizable(history_of(rows), Register())
    rows.append(("a", "read", (), 6, 7, None))
    with pytest.raises(NotLinearizable, match=r"a: read\(\) -> None \[6") as raised:
        linearizable(history_of(rows), Register())
    # The order has the unknown write, without a result.
    assert "that fits: a read() -> None; w write(1); a read() -> 1" in str(raised.value)


def test_failed_write_takes_no_effect() -> None:
    history = History()
    history.invoke("w", "write", 1).fail()
    history.invoke("a", "read").ok(1)
    with pytest.raises(NotLinearizable):
        linearizable(history, Register())


def test_queue_that_forgets_its_order_is_found() -> None:
    rows: list[Row] = [
        ("a", "enqueue", (1,), 1, 2, None),
        ("a", "enqueue", (2,), 3, 4, None),
        ("b", "dequeue", (), 5, 6, 2),
    ]
    with pytest.raises(NotLinearizable, match="would have been 1"):
        linearizable(history_of(rows), Queue())


def test_two_holders_of_a_lock_are_found() -> None:
    rows: list[Row] = [
        ("a", "acquire", (), 1, 2, None),
        ("b", "acquire", (), 3, 4, None),
        ("a", "release", (), 5, 6, None),
    ]
    with pytest.raises(NotLinearizable, match="b: acquire"):
        linearizable(history_of(rows), Lock())


def test_keys_are_checked_apart() -> None:
    # 300 operations, ten at a time: one search over all keys would not end.
    rng = random.Random(1)
    rows: list[Row] = []
    for key in range(30):
        value = None
        for number in range(10):
            time = 1000 * number + key * 20
            if rng.random() < 0.5:
                value = number
                rows.append((f"c{key}", "put", (key, number), time, time + 10, None))
            else:
                rows.append((f"c{key}", "get", (key,), time, time + 10, value))
    linearizable(history_of(rows), KeyValue(), budget=50)


def test_search_without_end_is_undecided() -> None:
    rows: list[Row] = [("c", "write", (n,), n, None, None) for n in range(1, 20)]
    rows.append(("r", "read", (), 100, 101, "none of them"))
    with pytest.raises(Undecided, match="19 unknown"):
        linearizable(history_of(rows), Register(), budget=1000)


def test_operation_ends_once() -> None:
    operation = History().invoke("c", "read")
    operation.unknown()
    with pytest.raises(RuntimeError, match="has ended before"):
        operation.ok()


def test_call_records_each_ending() -> None:
    history = History()

    async def give(value: object) -> object:
        if isinstance(value, BaseException):
            raise value
        return value

    async def main() -> None:
        assert await history.call("c", "get", "x", call=give(5)) == 5
        with pytest.raises(TimeoutError):
            await history.call("c", "put", "x", 1, call=give(TimeoutError()))
        with pytest.raises(KeyError):
            await history.call("c", "put", "x", 1, call=give(KeyError()), failures=(KeyError,))

    asyncio.run(main())
    assert [op.status for op in history] == [Status.OK, Status.UNKNOWN, Status.FAILED]
    assert history.operations[0].result == 5
    assert len(history) == 3


def test_function_that_a_model_lacks_is_named() -> None:
    history = history_of([("a", "pop", (), 1, 2, None)])
    with pytest.raises(ValueError, match="Register has no function 'pop'"):
        linearizable(history, Register())


# Transactions.


def serializable_by_force(operations: list[Operation], strict: bool) -> bool:
    def fits(order: tuple[Operation, ...]) -> bool:
        state: dict[Any, Any] = {}
        for transaction in order:
            assert isinstance(transaction, Transaction)
            for kind, key, value in transaction.steps:
                if kind == "read" and state.get(key) != value:
                    return False
                if kind == "elements" and state.get(key, ()) != value:
                    return False
                if kind == "write":
                    state[key] = value
                elif kind == "append":
                    state[key] = (*state.get(key, ()), value)
        return not strict or keeps_time(order)

    return any(fits(order) for order in orders(operations))


def random_transactions(rng: random.Random, lists: bool, disorder: float) -> History:
    """Transactions that run at a moment between begin and end; with disorder, some reads are old.

    Some read what they wrote, and some writes of failed ones are seen.
    """
    history = History()
    fresh = itertools.count(1)
    first: Any = [] if lists else None
    versions: dict[str, list[Any]] = {"x": [first], "y": [first]}
    running: list[Transaction] = []
    for number in range(rng.randint(2, 6)):
        running.append(history.transaction(f"c{number}"))
        while running and rng.random() < 0.6:
            current = running.pop(rng.randrange(len(running)))
            wrote: dict[str, Any] = {}
            read: set[str] = set()
            for _ in range(rng.randint(1, 4)):
                key = rng.choice("xy")
                value = wrote.get(key, versions[key][-1])
                if rng.random() < 0.5:
                    if key in read and rng.random() < 0.9:
                        continue
                    if rng.random() < disorder and key not in wrote:
                        value = rng.choice(versions[key])
                    read.add(key)
                    current.read(key, value)
                else:
                    element = next(fresh)
                    (current.append if lists else current.write)(key, element)
                    wrote[key] = [*value, element] if lists else element
            end = rng.random()
            if end < 0.8:
                current.ok()
            elif end < 0.9:
                current.unknown()
            else:
                current.fail()
            if end < 0.9 or rng.random() < 0.1:
                for key, value in wrote.items():
                    versions[key].append(value)
    return history


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("lists", [False, True])
def test_serializable_agrees_with_brute_force(lists: bool, strict: bool) -> None:
    rng = random.Random(f"{lists} {strict}")
    seen = []
    for _ in range(600):
        history = random_transactions(rng, lists, disorder=rng.choice([0, 0.3, 0.8]))
        expected = serializable_by_force(history.operations, strict)
        text = "\n".join(op.words() for op in history)
        assert passes(serializable, history, strict=strict) is expected, text
        seen.append(expected)
    assert min(seen.count(True), seen.count(False)) > 20


def transactions(*steps: str, lists: tuple[str, ...] = ()) -> History:
    """`"rx1 wy2"`: read 1 from x, write 2 to y; `-` is the initial value. All overlap."""
    history = History()
    made = []
    for text in steps:
        transaction = history.transaction(f"c{len(made)}")
        made.append(transaction)
        for step in text.split():
            kind, key, rest = step[0], step[1], step[2:]
            value = None if rest == "-" else int(rest)
            if key in lists and kind == "r":
                transaction.read(key, [] if value is None else [int(digit) for digit in rest])
            elif key in lists:
                transaction.append(key, value)
            elif kind == "r":
                transaction.read(key, value)
            else:
                transaction.write(key, value)
    for transaction in made:
        transaction.ok()
    return history


@pytest.mark.parametrize(
    ("steps", "lists", "name"),
    [
        # Lost update: both read the first version.
        (("rx- wx1", "rx- wx2"), (), "G2"),
        # Write skew: each read what the other wrote.
        (("rx- wy1", "ry- wx1"), (), "G2"),
        # Read skew: one part before the transfer, one after it.
        (("wx1 wy1", "rx1 ry-"), (), "G-single"),
        # Fekete's read-only transaction: the two others alone would do.
        (("rx- ry- wx-11", "ry- wy20", "rx- ry20"), (), "G2"),
        # Each read the other's write.
        (("wx1 ry2", "wy2 rx1"), (), "G1c"),
        # The elements of two lists show opposite orders.
        (("wx1 wy1", "wx2 wy2", "rx12 ry21"), ("x", "y"), "G0"),
        # Long fork: two readers see two writes in opposite orders.
        (("wx1", "wy1", "rx1 ry-", "rx- ry1"), (), "G2"),
    ],
)
def test_known_anomalies_are_named(
    steps: tuple[str, ...], lists: tuple[str, ...], name: str
) -> None:
    with pytest.raises(NotSerializable, match=name) as raised:
        serializable(transactions(*steps, lists=lists))
    assert len(raised.value.cycle) >= 2
    assert "T1" in str(raised.value)


def test_cycle_is_told_edge_by_edge() -> None:
    with pytest.raises(NotSerializable) as raised:
        serializable(transactions("wx1 wy1", "rx1 ry-"))
    lines = str(raised.value).splitlines()
    assert lines[-2:] == [
        "  T1 wrote x = 1, which was read by T2 (wr)",
        "  T2 read the version of y that was replaced by T1 (rw)",
    ]


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (("rx7",), "no transaction wrote"),
        (("wx1 wx2", "rx1"), "G1b"),
        (("wx1 rx2", "wx2"), "though it had 1"),
        (("rx1 wx1",), "before it was written"),
    ],
)
def test_impossible_reads_are_refused(steps: tuple[str, ...], words: str) -> None:
    with pytest.raises(NotSerializable, match=words):
        serializable(transactions(*steps))


def test_write_of_a_failed_transaction_is_not_read() -> None:
    history = History()
    failed, reader = history.transaction("a"), history.transaction("b")
    failed.write("x", 1)
    failed.fail()
    reader.read("x", 1)
    reader.ok()
    with pytest.raises(NotSerializable, match="G1a"):
        serializable(history)


def test_stale_read_is_serializable_but_not_strictly() -> None:
    history = History()
    writer = history.transaction("a")
    writer.write("x", 1)
    writer.ok()
    reader = history.transaction("b")
    reader.read("x", None)
    reader.ok()
    serializable(history)
    with pytest.raises(NotSerializable, match="in real time"):
        serializable(history, strict=True)


def test_value_written_twice_is_undecided() -> None:
    with pytest.raises(Undecided, match="1 was written to 'x' twice"):
        serializable(transactions("wx1", "wx1"))


def test_thousand_transactions_are_checked() -> None:
    rng = random.Random(5)
    history = History()
    state: dict[int, Any] = {}
    for number in range(1000):
        transaction = history.transaction(f"c{number % 5}")
        for key in rng.sample(range(20), 3):
            transaction.read(key, state.get(key))
            if rng.random() < 0.5:
                state[key] = number
                transaction.write(key, number)
        transaction.ok()
    serializable(history, strict=True)


def test_public_names_are_all_there() -> None:
    assert all(hasattr(checks, name) for name in checks.__all__)


def test_history_checks_itself() -> None:
    history = transactions("rx- wx1", "rx- wx2")
    with pytest.raises(NotSerializable):
        history.serializable()
    history = history_of([("a", "read", (), 1, 2, 7)])
    with pytest.raises(NotLinearizable):
        history.linearizable(Register())


def test_world_checks_the_history_that_it_is_given() -> None:
    async def program(world: World) -> None:
        world.history.invoke("a", "get", "x").ok(7)
        world.linearizable(History())
        with pytest.raises(NotLinearizable):
            world.linearizable()

    assert run_once(program, tape_of(0)).error is None


def test_times_come_from_the_clock() -> None:
    times = iter([1.5, 2.25])
    history = History(lambda: next(times))
    history.invoke("a", "read").ok(3)
    assert history.operations[0].words() == "a: read() -> 3 [1.500000 to 2.250000 s]"
