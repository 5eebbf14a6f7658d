"""time and datetime inside a world, and as they were after it."""

import copy
import datetime
import logging
import pickle
import time
from datetime import date as bound_date
from datetime import datetime as bound_datetime
from time import monotonic as bound_monotonic
from typing import Any

import pytest

from aiopoll.sim import World

from .inside_world import inside

# In a list: a global that is the original would be replaced too.
REAL = [time.time]
BOOT = 1_522_281_600.0


def test_clocks_are_the_hosts_and_stand_still() -> None:
    def program() -> list[float]:
        return [time.time(), time.monotonic(), bound_monotonic(), time.perf_counter()]

    assert inside(program) == [BOOT, 0.0, 0.0, 0.0]


def test_a_sleep_takes_virtual_time_alone() -> None:
    def program() -> tuple[float, int, float]:
        time.sleep(3600.5)
        return time.time() - BOOT, time.monotonic_ns(), time.clock_gettime(time.CLOCK_MONOTONIC)

    assert inside(program) == (3600.5, 3_600_500_000_000, 3600.5)


def test_a_drifting_clock_is_what_the_program_reads() -> None:
    def program(world: World) -> tuple[float, float]:
        world.clock("main", drift=0.5, jump=-10)
        time.sleep(2)
        return time.monotonic(), time.time() - BOOT

    assert inside(program) == (3.0, -7.0)


def test_a_loop_that_reads_clocks_lets_time_pass() -> None:
    def program() -> bool:
        until = time.monotonic() + 0.001
        while time.monotonic() < until:
            pass
        while time.monotonic() < until + 0.001:
            time.sleep(0)
        return True

    assert inside(program)


@pytest.mark.parametrize(
    ("seconds", "error"), [(-1, ValueError), (float("nan"), ValueError), ("1", AttributeError)]
)
def test_sleep_refuses_what_is_no_time(seconds: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        inside(lambda: time.sleep(seconds))


def test_dates_are_the_hosts() -> None:
    def program() -> list[Any]:
        time.sleep(1.25)
        return [
            datetime.datetime.now(datetime.UTC).isoformat(),
            bound_datetime.now(datetime.UTC).timestamp(),
            datetime.datetime.now() == datetime.datetime.today(),
            bound_date.today() == datetime.date.today() == datetime.datetime.now().date(),
        ]

    assert inside(program) == ["2018-03-29T00:00:01.250000+00:00", BOOT + 1.25, True, True]


def test_dates_are_of_the_real_classes() -> None:
    def program() -> Any:
        now = datetime.datetime.now()
        made = datetime.datetime(2020, 1, 2, fold=1)
        assert isinstance(now, datetime.datetime)
        assert isinstance(now, datetime.date)
        assert not isinstance(datetime.date(2020, 1, 2), datetime.datetime)
        assert issubclass(type(now), datetime.datetime)
        assert issubclass(datetime.datetime, datetime.date)
        assert type(now) is type(made) is datetime.datetime is bound_datetime
        assert {datetime.datetime: 1}[type(now)] == 1
        for value in (now, made, made.date(), made.replace(tzinfo=datetime.UTC)):
            for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
                assert pickle.loads(pickle.dumps(value, protocol)) == value
            assert copy.deepcopy(value) == value
        assert pickle.loads(pickle.dumps(made)).fold == 1
        return made, pickle.dumps(made)

    made, pickled = inside(program)
    assert type(made) is datetime.datetime
    assert pickle.loads(pickled) == made


def test_a_subclass_of_datetime_makes_its_own() -> None:
    def program() -> Any:
        class Mine(datetime.datetime):
            pass

        now = Mine.now()
        assert type(now) is Mine
        assert isinstance(now, datetime.datetime)
        assert not isinstance(datetime.datetime.now(), Mine)
        return now.timestamp()

    assert inside(program) == BOOT


def test_log_records_have_the_hosts_time() -> None:
    def program() -> float:
        time.sleep(5)
        record = logging.getLogger("x").makeRecord("x", 20, "f", 1, "m", (), None)
        return record.created

    assert inside(program) == BOOT + 5


def test_times_without_an_argument_are_now() -> None:
    def program() -> list[Any]:
        return [
            time.gmtime()[:5],
            time.localtime() == time.localtime(BOOT),
            time.ctime() == time.ctime(BOOT),
            time.asctime() == time.asctime(time.localtime(BOOT)),
            time.strftime("%s") == str(int(BOOT)),
            time.gmtime(0)[0],
        ]

    assert inside(program) == [(2018, 3, 29, 0, 0), True, True, True, True, 1970]


def test_names_are_restored_after_a_run_that_fails() -> None:
    before = vars(time).copy(), vars(datetime).copy(), bound_monotonic, bound_datetime

    def program() -> None:
        assert time.time is not REAL[0]
        time.time = lambda: 5.0
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        inside(program)
    assert (vars(time), vars(datetime), bound_monotonic, bound_datetime) == before
    assert time.time is REAL[0]


def test_a_method_that_was_called_often_is_found_anew() -> None:
    """CPython keeps what it found in a class, at the very line that asks."""

    def years() -> set[int]:
        return {datetime.datetime.now().year for _ in range(200)} | {
            datetime.date.today().year for _ in range(200)
        }

    assert 2018 not in years()
    assert inside(years) == {2018}
    assert 2018 not in years()
    assert inside(years) == {2018}


def test_a_sleep_of_nothing_takes_a_microsecond() -> None:
    def program() -> int:
        time.sleep(0)
        return time.monotonic_ns()

    assert inside(program) == 1000
