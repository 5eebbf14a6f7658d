"""The pytest plugin: seeds, replays, reports, tapes, pages, jobs and a fixed order of sets."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import aiopoll

pytest_plugins = ["pytester"]
pytestmark = [pytest.mark.subprocess, pytest.mark.slow]

SOURCE = Path(aiopoll.__file__).parents[1]
PLUGIN = (
    "-p",
    "no:aiopoll_sim",
    "-p",
    "aiopoll.pytest_plugin",
    "-p",
    "no:asyncio",
    "-p",
    "no:anyio",
)
"""By its module: the installed package may not have the entry point yet."""

RACE = """
    import asyncio, pytest
    from aiopoll.sim.testing import test

    @pytest.fixture
    def count():
        return 3

    @test(seeds=500)
    async def test_race(world, count):
        seen = []

        async def worker():
            await asyncio.sleep(0.5)
            value = len(seen)
            world.note("read", value=value)
            await asyncio.sleep(0)
            seen.append(value)

        await asyncio.gather(*(worker() for _ in range(count)))
        for _ in range(30):
            await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
        assert seen == [0] * count

    @test(seeds=7)
    async def test_fine(world):
        await asyncio.sleep(1)
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    monkeypatch.delenv("AIOPOLL_SIM_STARTED_AGAIN", raising=False)

    def run(*args: str, **environment: str | None) -> pytest.RunResult:
        for name, value in environment.items():
            if value is None:
                monkeypatch.delenv(name)
            else:
                monkeypatch.setenv(name, value)
        return pytester.runpytest_subprocess(*PLUGIN, *args)

    return run


def test_a_failure_is_reported_with_its_commands(pytester: pytest.Pytester, run):
    path = pytester.makepyfile(RACE).name
    result = run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([
        "E * assert ?0, *",
        "*- simulation -*",
        "seed *, after 500 ms of virtual time: AssertionError: *",
        f"  at {path}:22",
        f"  pytest {path}::test_race --sim-seed=*",
        "  aiopoll sim replay .sim/test_race-*.json",
        "1 choice of * is needed (* runs)",
        "* test ran 'worker (Task-*)' before 'worker (Task-*)'",
        "Last notes",
        "*test: read value=1",
    ])  # fmt: skip


def seed_of(result: pytest.RunResult) -> int:
    (found,) = set(re.findall(r"--sim-seed=(\d+)", result.stdout.str()))
    return int(found)


def test_the_seed_of_a_failure_repeats_it(pytester: pytest.Pytester, run):
    pytester.makepyfile(RACE)
    seed = seed_of(run())
    again = run("-k", "race", f"--sim-seed={seed}")
    again.assert_outcomes(failed=1)
    assert seed_of(again) == seed
    run("-k", "race", f"--sim-seed={seed - 1}").assert_outcomes(passed=1)


def test_a_tape_repeats_a_failure_without_shrinking(pytester: pytest.Pytester, run):
    pytester.makepyfile(RACE)
    run()
    (tape,) = (pytester.path / ".sim").glob("*.json")
    result = run("-k", "race", f"--sim-replay={tape}")
    result.assert_outcomes(failed=1)
    assert "are needed" not in result.stdout.str()
    assert "before 'worker" in result.stdout.str()


def test_a_kept_tape_fails_before_the_seeds(pytester: pytest.Pytester, run):
    pytester.makepyfile(RACE)
    seed = seed_of(run())
    (tape,) = (pytester.path / ".sim").glob("*.json")
    tape.rename(pytester.path / "kept.json")
    assert seed > 0
    pytester.makepyfile(RACE.replace("seeds=500", "seeds=1"))
    run("-k", "race").assert_outcomes(passed=1)
    pytester.makepyfile(RACE.replace("seeds=500", "seeds=1, tapes=['kept.json']"))
    result = run("-k", "race")
    result.stdout.fnmatch_lines([f"seed {seed}, after 500 ms *", "*--sim-replay=*"])


def test_a_damaged_tape_is_a_usage_error(pytester: pytest.Pytester, run):
    pytester.makepyfile(RACE)
    (pytester.path / "a.json").write_text("{")
    result = run("--sim-replay=a.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*a.json is no tape file: *"])


def test_git_leaves_tapes_out(pytester: pytest.Pytester, run):
    pytester.makepyfile(RACE)
    run()
    assert (pytester.path / ".sim" / ".gitignore").read_text() == "*\n"


def test_no_folder_is_made_where_all_passes(pytester: pytest.Pytester, run):
    pytester.makepyfile(RACE)
    run("-k", "fine").assert_outcomes(passed=1)
    assert not (pytester.path / ".sim").exists()


def test_without_shrinking_the_tape_is_as_found(pytester: pytest.Pytester, run):
    pytester.makepyfile(RACE)
    run("--no-sim-shrink")
    (tape,) = (pytester.path / ".sim").glob("*.json")
    whole = len(json.loads(tape.read_text("utf-8"))["deviations"])
    run()
    assert whole > len(json.loads(tape.read_text("utf-8"))["deviations"]) == 1


def counted(pytester: pytest.Pytester) -> str:
    pytester.makepyfile(f"""
        import os
        from aiopoll.sim import inside
        from aiopoll.sim.testing import test

        @test(seeds=12)
        async def test_seeds(world):
            with inside.outside(), open({str(pytester.path / "seeds")!r}, "a") as file:
                file.write(f"{{world.seed}} {{os.getpid()}}\\n")
    """)
    return str(pytester.path / "seeds")


def seeds_in(path: Path) -> list[int]:
    return [int(line.split()[0]) for line in path.read_text().splitlines()]


def test_each_seed_is_run_once_and_the_first_compared(pytester: pytest.Pytester, run):
    path = Path(counted(pytester))
    run().assert_outcomes(passed=1)
    assert seeds_in(path) == [*range(12), 0, 0]


def test_the_number_of_seeds_can_be_given(pytester: pytest.Pytester, run):
    path = Path(counted(pytester))
    run("--sim-seeds=5").assert_outcomes(passed=1)
    assert seeds_in(path) == [*range(5), 0, 0]


def test_one_seed_alone_is_run_once(pytester: pytest.Pytester, run):
    path = Path(counted(pytester))
    run("--sim-seed=5").assert_outcomes(passed=1)
    assert seeds_in(path) == [5]


def test_a_passing_test_that_differs_is_named(pytester: pytest.Pytester, run):
    pytester.makepyfile("""
        import asyncio
        from aiopoll import sim

        runs = []

        @sim.test(seeds=5)
        async def test_counts(world):
            runs.append(1)
            await asyncio.sleep(len(runs))
    """)
    result = run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([
        "aiopoll.sim: *::test_counts: Two runs of one tape differ from line *",
        "One: *",
        "The other: *",
    ])  # fmt: skip


@pytest.mark.parametrize("option", ["--sim-jobs=3", "-n3"])
def test_seeds_are_run_by_several_processes(pytester: pytest.Pytester, run, option: str):
    path = Path(counted(pytester))
    run(option, "--sim-seeds=30").assert_outcomes(passed=1)
    lines = [line.split() for line in path.read_text().splitlines()]
    # The first seed runs twice more, to be compared.
    assert sorted(int(seed) for seed, _ in lines) == [0, 0, *range(30)]
    assert len({pid for _, pid in lines}) == 4


def test_jobs_fail_by_the_same_seed_as_one(pytester: pytest.Pytester, run):
    pytester.makepyfile(RACE)
    one = run("-k", "race", "--no-sim-shrink")
    several = run("-k", "race", "--no-sim-shrink", "--sim-jobs=4")
    several.assert_outcomes(failed=1)
    assert seed_of(one) == seed_of(several)


def test_a_trace_is_written_with_its_page(pytester: pytest.Pytester, run):
    pytester.makepyfile(RACE)
    run("--sim-trace=out/run.json").stdout.fnmatch_lines(["written: out/run.html"])
    document = json.loads((pytester.path / "out/run.json").read_text("utf-8"))
    # The test that passes afterwards does not replace it.
    assert "AssertionError" in document["otherData"]["result"]
    assert "AssertionError" in (pytester.path / "out/run.html").read_text("utf-8")


def test_a_run_that_passes_has_a_trace_too(pytester: pytest.Pytester, run):
    pytester.makepyfile(RACE)
    run("-k", "fine", "--sim-trace=run.json").assert_outcomes(passed=1)
    document = json.loads((pytester.path / "run.json").read_text("utf-8"))
    assert document["otherData"]["result"].startswith("passed: seed 6")


def test_a_program_that_skips_is_skipped(pytester: pytest.Pytester, run):
    pytester.makepyfile("""
        import pytest
        from aiopoll.sim.testing import test

        @test
        async def test_skips(world):
            pytest.skip("not here")
    """)
    run().assert_outcomes(skipped=1)
    assert not (pytester.path / ".sim").exists()


def test_pytest_fail_is_a_failure_of_the_run(pytester: pytest.Pytester, run):
    pytester.makepyfile("""
        import asyncio, pytest
        from aiopoll.sim.testing import test

        @test
        async def test_fails(world):
            await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
            with pytest.raises(ValueError):
                await asyncio.sleep(1)
    """)
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*after 1 s of virtual time: Failed: DID NOT RAISE*"])


def test_a_run_that_differs_shows_where(pytester: pytest.Pytester, run):
    pytester.makepyfile("""
        import asyncio
        from aiopoll.sim.testing import test

        runs = []

        async def sleep_for(seconds):
            await asyncio.gather(asyncio.sleep(seconds), asyncio.sleep(0.001))

        @test
        async def test_counts(world):
            runs.append(1)
            await sleep_for(0.001 * len(runs))
            await sleep_for(0.001 * len(runs))
            if len(runs) % 2:
                assert False, len(runs)
    """)
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        "*The run is not the same each time*",
        "Two runs of one tape differ from line * of their traces on.",
        "One: *",
        "The other: *",
    ])  # fmt: skip


def test_faults_that_never_did_anything_are_named(pytester: pytest.Pytester, run):
    pytester.makepyfile("""
        import asyncio
        from aiopoll import sim

        async def idle():
            await asyncio.sleep(10)

        async def talks(host):
            reader, writer = await asyncio.open_connection("n0", 80)

        async def serves():
            async with await asyncio.start_server(lambda *ends: None, "0.0.0.0", 80):
                await asyncio.sleep(10)

        @sim.test(seeds=3)
        async def test_idle(world):
            world.host("n0", idle)
            world.host("n1", idle)
            world.partition("n0", "n1")
            await world.sleep(1)

        @sim.test(seeds=3)
        async def test_talks(world):
            world.host("n0", serves)
            world.host("n1", talks)
            world.partition("n0", "n1")
            await world.sleep(1)
    """)
    result = run()
    result.assert_outcomes(passed=2)
    lines = [line for line in result.outlines if "did nothing" in line]
    assert len(lines) == 1
    assert "::test_idle: did nothing in 3 runs: partition n0 | n1: packets lost" in lines[0]


def test_plain_functions_run_without_the_plugin(pytester: pytest.Pytester, run):
    pytester.makepyfile(RACE)
    result = pytester.runpytest_subprocess("-p", "no:aiopoll_sim", *PLUGIN[4:])
    result.assert_outcomes(passed=1, failed=1)
    assert "simulation" not in result.stdout.str()


# The order of sets

PINNED = """
    import os
    from aiopoll.sim.testing import test

    @test(seeds=1)
    async def test_hash_seed(world):
        print("seed", os.environ.get("PYTHONHASHSEED"), hash("text") == hash("text"))
"""


def test_sets_get_a_fixed_order_by_starting_again(pytester: pytest.Pytester, run):
    pytester.makepyfile(PINNED)
    result = run("-s", PYTHONHASHSEED=None)
    result.assert_outcomes(passed=1)
    text = result.stdout.str()
    assert text.count("aiopoll.sim: again, with PYTHONHASHSEED=0") == 1
    assert "seed 0" in text


def test_a_fixed_order_is_kept(pytester: pytest.Pytester, run):
    pytester.makepyfile(PINNED)
    result = run("-s", PYTHONHASHSEED="5")
    assert "seed 5" in result.stdout.str()
    assert "again" not in result.stdout.str()


def test_the_command_of_a_failure_has_its_order(pytester: pytest.Pytester, run):
    path = pytester.makepyfile(RACE).name
    result = run("-k", "race", "--no-sim-shrink", PYTHONHASHSEED="5")
    result.stdout.fnmatch_lines([f"  PYTHONHASHSEED=5 pytest {path}::test_race --sim-seed=*"])


def test_a_replay_takes_the_order_of_its_tape(pytester: pytest.Pytester, run):
    pytester.makepyfile(RACE)
    run(PYTHONHASHSEED="5")
    (tape,) = (pytester.path / ".sim").glob("*.json")
    result = run("-k", "race", f"--sim-replay={tape}", PYTHONHASHSEED="0")
    result.assert_outcomes(failed=1)
    assert "again, with PYTHONHASHSEED=5" in result.stdout.str()


def test_a_python_that_ignores_it_does_not_loop(pytester: pytest.Pytester, run):
    pytester.makepyfile(PINNED)
    environment = {**os.environ, "AIOPOLL_SIM_STARTED_AGAIN": "1", "PYTHONHASHSEED": "random"}
    command = [sys.executable, "-m", "pytest", *PLUGIN]
    result = subprocess.run(
        command, cwd=pytester.path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0
    assert "PYTHONHASHSEED is not fixed (this Python ignores it)" in result.stdout


def test_a_program_that_calls_pytest_goes_on(pytester: pytest.Pytester, run):
    pytester.makepyfile(PINNED)
    program = f"import pytest; print('ends', pytest.main({list(PLUGIN)!r}))"
    environment = {**os.environ, "PYTHONHASHSEED": "random"}
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=pytester.path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "ends 0" in result.stdout, result.stdout
    assert "not fixed (pytest runs inside of another program)" in result.stdout


def test_without_simulated_tests_nothing_is_imported(pytester: pytest.Pytester, run):
    pytester.makepyfile("""
        import sys

        def test_modules():
            loaded = [name for name in sys.modules if name.startswith("aiopoll")]
            assert loaded == ["aiopoll", "aiopoll.pytest_plugin"]
    """)
    result = run(PYTHONHASHSEED=None)
    result.assert_outcomes(passed=1)
    assert "again" not in result.stdout.str()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from aiopoll import sim", True),
        ("from aiopoll.sim.testing import test", True),
        ("from aiopoll import open", False),
        ("import aiopoll", False),
    ],
)
def test_files_are_searched_for_the_simulator(pytester: pytest.Pytester, line: str, found: bool):
    from aiopoll.pytest_plugin import has_words

    pytester.makepyfile(line)
    loaded = set(sys.modules)
    config = pytester.parseconfig(*PLUGIN, str(pytester.path))
    # pytester takes out again what that has loaded, but packages that stay go on using it.
    new = sys.modules.keys() - loaded
    assert {name for name in new if not name.startswith("_pytest.")} == set()
    assert has_words(config) is found


def test_a_terminal_gets_a_line_of_progress(pytester: pytest.Pytester, run):
    pytester.makepyfile("""
        import time
        from aiopoll.sim.testing import test

        @test(seeds=3)
        async def test_slow(world):
            from aiopoll.sim import inside
            with inside.outside():
                time.sleep(0.7)
    """)
    script = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    command = [sys.executable, "-c", script, sys.executable, "-m", "pytest", *PLUGIN]
    result = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True)
    assert result.returncode == 0
    assert re.search(r"\x1b7\x1b\[K 2 of 3 seeds, 1 a second\x1b8", result.stdout)
