"""Medians, their intervals, and ratios of pairs."""

import itertools
import math
import random
import statistics

import pytest
from benchmarks.statistics import COUNT_MIN, METRICS, Estimate, estimate, paired_ratios
from hypothesis import given
from hypothesis import strategies as st

samples = st.lists(
    st.floats(min_value=1e-3, max_value=1e9, allow_nan=False), min_size=1, max_size=30
)


def test_estimate_equal_samples_no_width() -> None:
    assert estimate([4.0] * 20) == (4, 4, 4)


def test_estimate_few_samples_their_range() -> None:
    assert estimate([3, 1, 2, 5, 4]) == (3, 1, 5)


def test_estimate_known_interval() -> None:
    # Of 15 samples, a draw's median is at most the third where 8 or more of its 15 are: 0.4 %. It
    # is at most the fourth with 2.8 %, so that the bound of 2.5 % is there.
    assert estimate(range(1, 16)) == (8, 4, 12)


@pytest.mark.parametrize("count", [6, 7, 8])
def test_estimate_is_that_of_all_draws(count: int) -> None:
    values = [1.0, 2.0, 4.0, 7.0, 11.0, 12.0, 20.0, 21.0][:count]
    medians: dict[float, int] = {}
    for drawn in itertools.combinations_with_replacement(values, count):
        ways = math.factorial(count)
        for one in set(drawn):
            ways //= math.factorial(drawn.count(one))
        median = statistics.median(drawn)
        medians[median] = medians.get(median, 0) + ways
    outside = 0.025 * count**count
    low = next(one for one in sorted(medians) if below(medians, one) > outside)
    above = {-one: ways for one, ways in medians.items()}
    high = -next(one for one in sorted(above) if below(above, one) > outside)
    assert estimate(values) == pytest.approx((statistics.median(values), low, high))


def below(medians: dict[float, int], bound: float) -> int:
    return sum(ways for median, ways in medians.items() if median <= bound)


def test_estimate_of_an_outlier_stays_where_most_are() -> None:
    found = estimate([1.0] * 14 + [1000.0])
    assert found == (1, 1, 1)


def test_interval_covers_the_median_in_19_of_20_cases() -> None:
    draw = random.Random(7)
    covered = 0
    for _ in range(200):
        found = estimate(draw.gauss(10, 1) for _ in range(15))
        covered += found.low <= 10 <= found.high
    assert 180 <= covered <= 199


@given(samples)
def test_interval_holds_the_median_and_is_within_samples(values: list[float]) -> None:
    found = estimate(values)
    assert found.median == statistics.median(values)
    assert min(values) <= found.low <= found.median <= found.high <= max(values)


@given(samples, st.randoms(use_true_random=False))
def test_estimate_does_not_depend_on_order(values: list[float], order: random.Random) -> None:
    shuffled = values[:]
    order.shuffle(shuffled)
    assert estimate(shuffled) == estimate(values)


@given(samples, st.sampled_from([0.25, 2.0, 1024.0]))
def test_estimate_scales_with_its_samples(values: list[float], factor: float) -> None:
    scaled = estimate(value * factor for value in values)
    assert scaled == tuple(part * factor for part in estimate(values))


@given(st.lists(st.floats(min_value=0.5, max_value=2), min_size=COUNT_MIN, max_size=20))
def test_worse_by_the_interval_is_worse_by_the_median(values: list[float]) -> None:
    found = estimate(values)
    for metric in ("rate", "cpu_us"):
        described = METRICS[metric]
        if described.surely_worse(found, 0.98):
            assert described.worse(found.median, 0.98)


def test_surely_worse_rate_below_and_time_above() -> None:
    rate, cpu = METRICS["rate"], METRICS["cpu_us"]
    assert rate.surely_worse(Estimate(0.9, 0.8, 0.97), 0.98)
    assert not rate.surely_worse(Estimate(0.9, 0.8, 0.98), 0.98)
    assert cpu.surely_worse(Estimate(1.1, 1.03, 1.2), 0.98)
    assert not cpu.surely_worse(Estimate(1.1, 1.02, 1.2), 0.98)  # 1 / 0.98 is 1.0204


def test_paired_ratios_leave_out_unpaired_samples() -> None:
    these = [{"rate": 2.0}, {"rate": 3.0}, {}, {"rate": 5.0}]
    others = [{"rate": 1.0}, {"rate": 0.0}, {"rate": 1.0}, {"rate": 2.0}]
    assert paired_ratios(these, others, "rate") == [2, 2.5]


def test_rounded_keeps_eight_digits() -> None:
    assert Estimate(1 / 3, 2977307.123456, 0).rounded() == (0.33333333, 2977307.1, 0)


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        ("rate", 93146.4, "93,146"),
        ("cpu_us", 10.64, "10.6"),
        ("cpu_us", 0.5, "0.50"),
        ("peak_memory", 3 << 20, "3.00"),
        ("rate", None, "-"),
    ],
)
def test_metric_shows_three_digits_or_all_before_the_point(
    metric: str, value: float | None, shown: str
) -> None:
    assert METRICS[metric].show(value) == shown
