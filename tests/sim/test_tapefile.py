"""Tape files: what is written is read again, and what cannot be used is refused by name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aiopoll.sim import tapefile
from aiopoll.sim.tape import Deviation
from aiopoll.sim.tapefile import PYTHON, TapeError, TapeFile, load, save

DEVIATIONS = [Deviation("n2>n0 delay", 4, 40_000_000, 17), Deviation("n1 torn log.bin", 0, 3)]
FILE = TapeFile("tests/test_raft.py::test_raft", 17, "uniform", DEVIATIONS, "two leaders é")


@pytest.mark.parametrize("deviations", [[], DEVIATIONS])
def test_a_saved_tape_is_loaded_again(tmp_path: Path, deviations):
    wanted = TapeFile("t.py::t", 3, "pct", deviations)
    path = save(tmp_path / ".sim" / "t-3.json", wanted)
    assert load(path) == wanted
    assert load(path).tape().seed == 3


def test_each_deviation_has_a_line(tmp_path: Path):
    text = save(tmp_path / "a.json", FILE).read_text("utf-8")
    assert '["n2>n0 delay", 4, 40000000, 17]' in [line.strip(" ,") for line in text.splitlines()]
    assert json.loads(text)["format"] == 1


def test_times_may_be_missing(tmp_path: Path):
    path = save(tmp_path / "a.json", FILE)
    path.write_text(path.read_text("utf-8").replace("40000000, 17]", "40000000]"), "utf-8")
    assert load(path).deviations[0].at_ns == 0


def changed(path: Path, **changes: object) -> Path:
    found = json.loads(path.read_text("utf-8"))
    found.update(changes)
    path.write_text(json.dumps({k: v for k, v in found.items() if v is not None}), "utf-8")
    return path


def test_another_python_is_refused_with_both_versions(tmp_path: Path):
    path = changed(save(tmp_path / "a.json", FILE), python="2.7")
    with pytest.raises(TapeError, match=rf"Python 2\.7, and this is Python {PYTHON}"):
        load(path)
    assert load(path, any_python=True).python == "2.7"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2, and this aiopoll reads format 1"),
        ({"format": None}, "no tape file: it has no format"),
        ({"seed": None}, "damaged: it has no seed"),
        ({"seed": "17"}, "damaged: '17' is no int"),
        ({"seed": True}, "damaged: True is no int"),
        ({"deviations": [["n0 step", 1]]}, "damaged: .* is no deviation"),
        ({"deviations": [["n0 step", 1, "x"]]}, "damaged: 'x' is no int"),
        ({"deviations": {}}, "damaged: {} is no list"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, changes: dict[str, object], message: str):
    with pytest.raises(TapeError, match=message):
        load(changed(save(tmp_path / "a.json", FILE), **changes))


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"format": 1'])
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(TapeError, match=r"a\.json is no tape file"):
        load(path)


def test_a_cut_file_is_refused_at_each_length(tmp_path: Path):
    path = save(tmp_path / "a.json", FILE)
    whole = path.read_text("utf-8").rstrip()
    for length in range(len(whole)):
        path.write_text(whole[:length], "utf-8")
        with pytest.raises(TapeError):
            load(path)


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("value", "options", "seed"),
    [("0", [], "0"), ("7", [], "7"), ("random", [], "random"), ("7", ["-E"], "random")],
)
def test_the_hash_seed_of_the_process_is_kept(value: str, options: list[str], seed: str):
    source = Path(tapefile.__file__).parents[2]
    program = f"""if True:
        import sys
        sys.path.insert(0, {str(source)!r})
        from aiopoll.sim.tapefile import hash_seed
        print(hash_seed())
    """
    command = [sys.executable, *options, "-c", program]
    found = subprocess.run(
        command, env={"PYTHONHASHSEED": value}, capture_output=True, text=True, check=True
    )
    assert found.stdout == f"{seed}\n"
