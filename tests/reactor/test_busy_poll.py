"""The rule by which a loop looks at its ring before it sleeps."""

from collections.abc import Callable

import pytest

# Reads what each look meets, and prints what comes of it, "-" for a sleep that no look precedes.
PROGRAM = """
#include <stdio.h>
#include <time.h>

static long long now_ns, step_ns;

static int fake_clock(clockid_t clock, struct timespec *now)
{
	now_ns += step_ns;
	now->tv_sec = now_ns / 1000000000;
	now->tv_nsec = now_ns % 1000000000;
	return 0;
}

#define clock_gettime fake_clock
#include "busy_poll.h"

int main(void)
{
	static struct aio_ring ring = { .nr = 8 };
	struct busy_poll busy;
	int what;

	busy_poll_init(&busy, 100000, true);
	busy.quick = true;
	while ((what = getchar()) != EOF) {
		if (!busy_poll_due(&busy)) {
			putchar('-');
			continue;
		}
		ring.tail = what == 'e' || what == 'E';
		step_ns = what == 'E' || what == 'N' ? 3000000 : 1000;
		putchar(busy_poll_spin(&busy, &ring, -1) ? 'e' : 'n');
	}
	return 0;
}
"""
EVENT, EVENT_AFTER_ANOTHER_THREAD = "e", "E"
NOTHING, ANOTHER_THREAD = "n", "N"


@pytest.fixture(scope="module")
def looks(compiled: Callable[[str], Callable[[str], str]]) -> Callable[[str], str]:
    return compiled(PROGRAM)


def test_looks_that_find_something_go_on(looks: Callable[[str], str]) -> None:
    assert looks(EVENT * 5000) == "e" * 5000


def test_each_look_in_vain_doubles_the_sleeps(looks: Callable[[str], str]) -> None:
    assert looks(NOTHING * 12) == "n-n---n-----"
    assert max(map(len, looks(NOTHING * 9000).split("n"))) == 1023


@pytest.mark.parametrize(
    ("lost", "found"), [(EVENT_AFTER_ANOTHER_THREAD, "e"), (ANOTHER_THREAD, "n")]
)
def test_a_look_that_loses_the_cpu_is_the_last_for_long(
    lost: str, found: str, looks: Callable[[str], str]
) -> None:
    assert looks(lost + EVENT * 100) == found + "-" * 63 + "e" * 37
    sleeps = looks(lost * 40000).split(found)[1:-1]
    assert [len(one) for one in sleeps[:9]] == [63, 126, 252, 504, 1008, 2016, 4032, 8064, 8191]


def test_looks_that_keep_the_cpu_make_up_for_it(looks: Callable[[str], str]) -> None:
    lost = EVENT_AFTER_ANOTHER_THREAD
    twice = lost + EVENT * 63 + lost + EVENT * 126
    assert looks(twice + lost + EVENT * 500).endswith("e" + "-" * 252 + "e" * 248)
    assert looks(twice + EVENT * 1024 + lost + EVENT * 500).endswith("e" + "-" * 126 + "e" * 374)
