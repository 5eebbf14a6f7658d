"""aiopoll sim: replay, diff, run and explore, with their exit statuses."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import aiopoll
from aiopoll.cli import main
from aiopoll.sim.loading import LoadError, NeedsPytest, load_test
from aiopoll.sim.tape import Deviation
from aiopoll.sim.tapefile import TapeFile, load, save

RACE = """
import asyncio
from aiopoll import sim

@sim.test(seeds=300)
async def test_race(world):
    seen = []

    async def worker():
        await asyncio.sleep(0.5)
        value = len(seen)
        await asyncio.sleep(0)
        seen.append(value)

    await asyncio.gather(worker(), worker(), worker())
    for _ in range(30):
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
    assert seen == [0, 0, 0]

@sim.test(seeds=7)
async def test_fine(world):
    await asyncio.sleep(1)

async def plain(world):
    assert world.seed < 3

@sim.test
async def test_fixture(world, tmp_path):
    assert False, tmp_path.name

runs = []

@sim.test(seeds=1)
async def test_counts(world):
    runs.append(1)
    await asyncio.sleep(len(runs))
    await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
    assert False

def helper():
    pass
"""


@pytest.fixture(autouse=True)
def race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a name of its own, since modules stay imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIOPOLL_SIM_STARTED_AGAIN", "1")
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = "race_" + re.sub(r"\W", "_", tmp_path.name)
    Path(f"{name}.py").write_text(RACE)
    return f"{name}.py"


def test_run_shows_the_first_failure(race: str, capsys: pytest.CaptureFixture[str]):
    assert main(["sim", "run", f"{race}::test_race"]) == 1
    text = capsys.readouterr().out
    assert "after 500 ms of virtual time: AssertionError" in text
    assert "1 choice of " in text
    (seed,) = re.findall(r"--sim-seed=(\d+)", text)
    assert main(["sim", "run", f"{race}::test_race", "--seed", seed, "--no-shrink"]) == 1
    assert "are needed" not in capsys.readouterr().out


def test_run_counts_seeds_that_pass(race: str, capsys: pytest.CaptureFixture[str]):
    assert main(["sim", "run", f"{race}::test_fine"]) == 0
    assert capsys.readouterr().out == "7 seeds passed.\n"
    assert main(["sim", "run", f"{race}::test_fine", "--seeds=20", "--jobs=3"]) == 0
    assert capsys.readouterr().out == "20 seeds passed.\n"
    assert not Path(".sim").exists()


def test_a_coroutine_function_is_a_test_too(race: str, capsys: pytest.CaptureFixture[str]):
    assert main(["sim", "run", f"{race}::plain", "--jobs=2"]) == 1
    assert "seed 3, after 0 ns" in capsys.readouterr().out


def test_a_passing_run_has_a_trace_if_asked(race: str, capsys: pytest.CaptureFixture[str]):
    assert main(["sim", "run", f"{race}::test_fine", "--trace", "out/run.json"]) == 0
    assert "written: out/run.html" in capsys.readouterr().out
    assert Path("out/run.json").exists()


def tape_of_race(race: str, capsys: pytest.CaptureFixture[str]) -> Path:
    main(["sim", "run", f"{race}::test_race"])
    capsys.readouterr()
    (path,) = Path(".sim").glob("*.json")
    return path


def test_replay_repeats_the_failure(race: str, capsys: pytest.CaptureFixture[str]):
    path = tape_of_race(race, capsys)
    before = path.read_bytes()
    assert main(["sim", "replay", str(path), "--trace=run.json"]) == 1
    text = capsys.readouterr().out
    assert "test ran 'worker (Task-" in text
    assert "written: run.html" in text
    assert path.read_bytes() == before


def test_replay_in_another_folder_writes_no_tape(race: str, capsys: pytest.CaptureFixture[str]):
    path = tape_of_race(race, capsys)
    path.rename("kept.json")
    assert main(["sim", "replay", "kept.json"]) == 1
    assert "aiopoll sim replay kept.json" in capsys.readouterr().out
    assert list(Path(".sim").glob("*.json")) == []


def test_replay_of_a_corrected_program_passes(race: str, capsys: pytest.CaptureFixture[str]):
    save("a.json", TapeFile(f"{race}::test_fine", 3, "uniform", []))
    assert main(["sim", "replay", "a.json"]) == 0
    assert capsys.readouterr().out == "passed: seed 3, after 1 s of virtual time\n"


def test_replay_many_times_compares(race: str, capsys: pytest.CaptureFixture[str]):
    path = tape_of_race(race, capsys)
    assert main(["sim", "replay", str(path), "--times=3"]) == 1
    assert capsys.readouterr().out.startswith("3 runs are the same.\n")
    save("a.json", TapeFile(f"{race}::test_counts", 0, "uniform", []))
    assert main(["sim", "replay", "a.json", "--times=3"]) == 1
    text = capsys.readouterr().out
    assert text.startswith("Two runs of one tape differ from line ")


def test_explore_counts_orders(race: str, capsys: pytest.CaptureFixture[str]):
    assert main(["sim", "explore", f"{race}::test_fine"]) == 0
    assert capsys.readouterr().out == "1 orders passed.\n"


def test_explore_shows_a_failure_with_its_tape(race: str, capsys: pytest.CaptureFixture[str]):
    assert main(["sim", "explore", f"{race}::test_race", "--preemptions=1"]) == 1
    text = capsys.readouterr().out
    assert re.match(r"Order \d+ failed\.\n", text)
    assert "--sim-replay=.sim/test_race-0.json" in text
    assert main(["sim", "replay", ".sim/test_race-0.json"]) == 1


def test_explore_gives_up_at_its_limit(race: str, capsys: pytest.CaptureFixture[str]):
    Path("many.py").write_text(
        "import asyncio\nasync def many(world):\n"
        "    await asyncio.gather(*(asyncio.sleep(0) for _ in range(9)))\n"
    )
    assert main(["sim", "explore", "many.py::many", "--limit=5"]) == 2
    assert "more than 5 orders" in capsys.readouterr().err


def test_diff_shows_the_first_draw_that_differs(capsys: pytest.CaptureFixture[str]):
    one = [Deviation("n0 step", 1, 1, 10**9), Deviation("n0>n1 delay", 3, 10**6, 2 * 10**9)]
    save("a.json", TapeFile("t.py::t", 1, "uniform", one))
    save("b.json", TapeFile("t.py::t", 2, "uniform", one[:1]))
    assert main(["sim", "diff", "a.json", "b.json"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "seed: 1, 2",
        "--- a.json",
        "+++ b.json",
        "      1.000000 s  n0 ran its 2nd ready callback first",
        "-     2.000000 s  n0's 4th packet to n1 was 1 ms late",
        "+ nothing more",
    ]
    assert main(["sim", "diff", "a.json", "a.json"]) == 0
    assert capsys.readouterr().out == "They are the same.\n"


def test_diff_compares_traces(race: str, capsys: pytest.CaptureFixture[str]):
    for name, seconds in (("a", 1), ("b", 1), ("c", 2)):
        Path(f"{name}_notes.py").write_text(
            "import asyncio\nasync def notes(world):\n"
            f"    await asyncio.sleep({seconds})\n    world.note('slept')\n"
        )
        main(["sim", "run", f"{name}_notes.py::notes", "--seed=1", f"--trace={name}.json"])
    capsys.readouterr()
    assert main(["sim", "diff", "a.json", "b.json"]) == 0
    assert main(["sim", "diff", "a.json", "c.json"]) == 1
    text = capsys.readouterr().out
    assert "-     1.000000 s  test: slept" in text
    assert "+     2.000000 s  test: slept" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["replay", "no.json"], "No such file"),
        (["replay", "{race}"], "is no tape file"),
        (["diff", "{race}", "{race}"], "is no tape and no trace"),
        (["run", "{race}"], "names no test"),
        (["run", "no.py::test"], "there is no file 'no.py'"),
        (["run", "{race}::test_no"], "has no 'test_no'"),
        (["run", "{race}::helper"], "is no simulated test"),
        (["run", "{race}::test_fixture"], "has fixtures: tmp_path"),
        (["explore", "{race}::TestA::test_b"], "is in a class"),
    ],
)
def test_what_cannot_be_run_is_status_2(
    race: str, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
):
    assert main(["sim", *(argument.format(race=race) for argument in arguments)]) == 2
    output = capsys.readouterr()
    assert words in output.err
    assert output.out == ""


@pytest.mark.parametrize("text", ["0", "-1", "x"])
def test_numbers_are_positive(race: str, text: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["sim", "run", f"{race}::test_fine", f"--seeds={text}"])
    assert "invalid" in capsys.readouterr().err


def test_a_file_of_a_package_has_its_dotted_name(tmp_path: Path):
    folder = tmp_path / "outer_package" / "inner"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent):
        (package / "__init__.py").write_text("")
    (folder / "helper.py").write_text("limit = 3\n")
    (folder / "case.py").write_text(
        "from .helper import limit\nasync def case(world):\n    assert world.seed < limit\n"
    )
    test = load_test("outer_package/inner/case.py::case")
    assert test.program.__module__ == "outer_package.inner.case"


def test_only_pytest_gives_parameters(race: str):
    with pytest.raises(NeedsPytest, match="has parameters"):
        load_test(f"{race}::test_race[1]")
    assert issubclass(NeedsPytest, LoadError)


# In processes of its own


def run_command(*arguments: str, seed: str = "random") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(aiopoll.__file__).parents[1]),
        "PYTHONHASHSEED": seed,
    }
    del environment["AIOPOLL_SIM_STARTED_AGAIN"]
    command = [sys.executable, "-m", "aiopoll", "sim", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.subprocess
@pytest.mark.slow
def test_sets_have_the_order_of_the_tape(race: str):
    found = run_command("run", f"{race}::test_race", seed="7")
    assert found.returncode == 1, found.stderr
    (path,) = Path(".sim").glob("*.json")
    assert load(path).hash_seed == "7"
    Path("hashed.py").write_text(
        "import os\nasync def test(world):\n    print('seed', os.environ['PYTHONHASHSEED'])\n"
    )
    save("a.json", TapeFile("hashed.py::test", 1, "uniform", [], hash_seed="7"))
    assert "seed 7" in run_command("replay", "a.json").stdout
    assert "seed 0" in run_command("run", "hashed.py::test", "--seeds=1").stdout


@pytest.mark.subprocess
@pytest.mark.slow
def test_a_test_with_fixtures_is_replayed_by_pytest(race: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:aiopoll_sim -p aiopoll.pytest_plugin")
    save("a.json", TapeFile(f"{race}::test_fixture", 1, "uniform", []))
    found = run_command("replay", "a.json")
    assert found.returncode == 1
    assert "AssertionError: test_fixture0" in found.stdout
    assert "seed 1, after 0 ns of virtual time" in found.stdout
