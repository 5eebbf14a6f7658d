"""Statistics of samples: their median with its 95 % interval, and a figure as it is shown.

The interval is the bootstrap's: as many samples are drawn with replacement, and 95 % of the medians
of all draws lie in it.  For a median their distribution is known, so that nothing is drawn: equal
samples have equal intervals.
"""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import NamedTuple

CONFIDENCE = 0.95
COUNT_MIN = 6
"""The range of five samples holds the median in fewer than 95 of 100 cases (1 - 2/2**5), that of
six in more: fewer samples have no interval of 95 %."""


class Estimate(NamedTuple):
    """A median, and the bounds of its interval; [median, low, high] in JSON."""

    median: float
    low: float
    high: float

    def rounded(self) -> "Estimate":
        """To eight digits, as it is kept in git."""
        return Estimate(*(float(f"{value:.8g}") for value in self))


def estimate(samples: Iterable[float]) -> Estimate:
    """The median and its interval; for fewer than COUNT_MIN samples that is their range."""
    values = sorted(samples)
    median = statistics.median(values)
    if len(values) < COUNT_MIN:
        return Estimate(median, values[0], values[-1])
    medians = sorted(_medians_of_draws(values))
    return Estimate(median, _bound(medians), _bound(reversed(medians)))


def _bound(medians: Iterable[tuple[float, float]]) -> float:
    """The median with half of the probability outside the interval before it."""
    outside = (1 - CONFIDENCE) / 2
    for median, probability in medians:
        outside -= probability
        if outside < 0:
            return median
    raise AssertionError("they are less probable together than what is outside")


def _medians_of_draws(values: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Each median that a draw from these values, in order, can have, and how probable it is."""
    count = len(values)
    middle = (count + 1) // 2  # counted from 1; of an even number the lower one of two
    before = 0.0
    for index in range(count):
        # The draw's middle one is at most this value where `middle` of it or more are.
        share = (index + 1) / count
        at_most = sum(
            comb(count, size) * share**size * (1 - share) ** (count - size)
            for size in range(middle, count + 1)
        )
        here, before = at_most - before, at_most
        if count % 2 == 0:
            # One half's largest is this value, and the other half's smallest is another.
            lower = comb(count, middle) * (share**middle - (index / count) ** middle)
            for other in range(index + 1, count):
                above, beyond = (count - other) / count, (count - other - 1) / count
                both = lower * (above**middle - beyond**middle)
                here -= both
                yield statistics.median((values[index], values[other])), both
        yield values[index], here


def paired_ratios(
    these: Sequence[Mapping[str, float]], others: Sequence[Mapping[str, float]], metric: str
) -> list[float]:
    """Of each sample to the one that was measured beside it, where both have the metric."""
    return [
        one[metric] / other[metric]
        for one, other in zip(these, others, strict=False)
        if metric in one and other.get(metric)
    ]


@dataclass(frozen=True)
class Metric:
    title: str  # in a table of many
    name: str  # in a sentence
    unit: str
    more_is_better: bool = False
    scale: float = 1.0  # the unit shown is so much of the unit kept

    def show(self, value: float | None) -> str:
        if value is None:
            return "-"
        value /= self.scale
        digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
        return f"{value:,.{digits}f}"

    def worse(self, ratio: float, limit: float = 1.0) -> bool:
        """Whether a ratio is beyond the limit: below it, or where less is better above 1/limit."""
        return ratio < limit if self.more_is_better else ratio > 1 / limit

    def surely_worse(self, ratio: Estimate, limit: float) -> bool:
        """Whether the whole interval of a ratio is beyond the limit."""
        return self.worse(ratio.high if self.more_is_better else ratio.low, limit)


# CPU, switches and calls are the server's; each is for one operation.
METRICS = {
    "rate": Metric("rate", "rate", "/s", more_is_better=True),
    "cpu_us": Metric("CPU", "CPU time", "µs"),
    "user_us": Metric("user", "CPU time in user space", "µs"),
    "p50_us": Metric("p50", "latency p50", "µs"),
    "p99_us": Metric("p99", "latency p99", "µs"),
    "p999_us": Metric("p99.9", "latency p99.9", "µs"),
    "context_switches": Metric("switches", "context switches", ""),
    "system_calls": Metric("calls", "system calls", ""),
    "peak_memory": Metric("memory", "peak memory", "MiB", scale=1 << 20),
    "connection_memory": Metric("each", "memory per connection", "KiB", scale=1 << 10),
    "stall_ms": Metric("stall", "longest stall", "ms"),
    "lost": Metric("lost", "lost datagrams", ""),
    "unanswered": Metric("starved", "connections never answered", ""),
    "least_share": Metric(
        "share", "connections of the worker with the fewest, to an equal part", ""
    ),
    "client_cpu_share": Metric("client", "CPU of the client", "%", scale=0.01),
}


def show_interval(ratio: Estimate) -> str:
    return f"[{ratio.low:.3f}, {ratio.high:.3f}]"
