"""What Callgrind has counted, by place."""

import pytest
from benchmarks.instructions import costs, place_of, table

COUNTED = """\
positions: line
events: Ir
ob=(1) /usr/lib/libpython3.11.so.1.0
fl=(1) ceval.c
fn=(1) run
7 100
cob=(2) /checkout/src/aiopoll/loop/core.cpython-311-x86_64-linux-gnu.so
cfn=(2) poll
calls=3 12
7 5000
+1 20

ob=(2)
fn=(2)
12 4000
* 1000
"""


@pytest.mark.parametrize(
    ("library", "place"),
    [
        ("/usr/bin/python3.13", "Python"),
        ("/usr/lib/libpython3.11.so.1.0", "Python"),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", "C library"),
        ("/v/lib/python3.11/site-packages/uvloop/loop.cpython-311.so", "uvloop/loop"),
        ("/checkout/src/aiopoll/loop/core.cpython-311-x86_64-linux-gnu.so", "aiopoll/loop/core"),
        ("???", "???"),
    ],
)
def test_libraries_have_a_place(library: str, place: str) -> None:
    assert place_of(library) == place


def test_calls_are_counted_where_they_spend() -> None:
    assert costs(COUNTED) == {"Python": 120, "aiopoll/loop/core": 5000}


def test_small_places_are_summed_up() -> None:
    assert table({"a": 990.0, "b": 1000.0, "c": 9.0, "d": 1.0}).splitlines()[2:] == [
        "| b | 1,000 |",
        "| a | 990 |",
        "| all others | 10 |",
        "| **sum** | **2,000** |",
    ]
