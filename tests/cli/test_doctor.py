"""aiopoll doctor: its output and its exit status."""

import dataclasses
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aiopoll import Support, probe
from aiopoll.cli import doctor, main
from aiopoll.support import FileSupport

COMMAND = [sys.executable, "-W", "error", "-m", "aiopoll", "doctor"]
REASON = (
    "io_setup(1): no AIO context can be had: fs.aio-max-nr is 65536 for the whole machine and"
    " 65536 of it are taken: close other contexts, or raise it as root:"
    " sysctl -w fs.aio-max-nr=131072"
)


def words_of(text: str) -> str:
    return " ".join(text.split())


def test_doctor_prints_its_findings_and_exits_with_0(capsys: pytest.CaptureFixture[str]):
    assert main(["doctor"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    lines = [words_of(line) for line in output.out.splitlines()]
    assert lines[0] == f"AIO poll works here (kernel {os.uname().release})."
    for line in (
        "io_setup yes",
        "io_submit, POLL yes",
        "io_cancel yes",
        "io_pgetevents yes",
        "ring in user space yes",
        f"fs.aio-max-nr {probe().aio_max_nr}",
        "pipe yes",
        "terminal no has two wait queues: served by a nested epoll set",
        "signalfd ? taken, but never completes: served by a nested epoll set",
    ):
        assert line in lines


def test_doctor_without_aio_prints_why_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    refused = Support(aio_max_nr=65536, aio_nr=65536, errno=errno.EAGAIN, reason=REASON)
    monkeypatch.setattr(doctor, "probe", lambda: refused)
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert text.startswith("AIO poll does not work here")
    assert "Why: " + REASON in words_of(text)
    assert "sysctl -w fs.aio-max-nr=131072" in text  # in one line, to be copied


def test_json_has_the_fields_of_support(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    support = probe()
    monkeypatch.setattr(doctor, "probe", lambda: support)
    assert main(["doctor", "--json"]) == 0
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    found = json.loads(output)
    assert list(found) == [field.name for field in dataclasses.fields(Support)]
    for name in set(found) - {"files", "limits"}:
        assert found[name] == getattr(support, name)
    assert found["limits"] == list(support.limits)
    assert found["files"] == [dataclasses.asdict(file) for file in support.files]


def test_keys_of_the_json_are_stable():
    keys = "aio_poll setup submit cancel pgetevents user_ring aio_max_nr aio_nr errno reason limits"
    assert list(json.loads(doctor.as_json(Support()))) == [*keys.split(), "kernel", "files"]
    text = doctor.as_json(Support(files=(FileSupport("pipe", True, ""),)))
    assert json.loads(text)["files"] == [{"kind": "pipe", "polls": True, "note": ""}]


def test_json_without_aio_has_why_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    refused = Support(aio_max_nr=65536, aio_nr=65536, errno=errno.EAGAIN, reason=REASON)
    monkeypatch.setattr(doctor, "probe", lambda: refused)
    assert main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["aio_poll"], found["errno"], found["reason"]) == (False, errno.EAGAIN, REASON)


def test_untested_findings_are_printed_as_not_tested():
    lines = [words_of(line) for line in doctor.report(Support(reason=REASON)).splitlines()]
    assert "io_setup no" in lines
    for name in ("io_submit, POLL", "io_cancel", "io_pgetevents", "ring in user space"):
        assert f"{name} not tested" in lines
    assert "Files that AIO poll takes" not in lines


def test_unknown_numbers_are_called_so():
    text = words_of(doctor.report(Support()))
    assert "fs.aio-max-nr unknown (no such file in /proc/sys/fs)" in text
    assert "(kernel unknown)" in text


def test_limits_are_printed():
    text = doctor.report(Support(aio_poll=True, limits=("this is slower", "that is missing")))
    assert "Note: this is slower" in text
    assert "Note: that is missing" in text


def test_report_is_ascii_and_fits_a_terminal():
    long = FileSupport("a kind of file", None, "a note of many words " * 10)
    text = doctor.report(Support(reason=REASON, limits=(REASON,), files=(*probe().files, long)))
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 88


@pytest.mark.subprocess
def test_piped():
    child = subprocess.run(COMMAND, capture_output=True, text=True, timeout=60)
    assert (child.returncode, child.stderr) == (0, "")
    assert child.stdout.startswith("AIO poll works here")
    assert "\x1b" not in child.stdout


@pytest.mark.subprocess
def test_installed_command():
    command = Path(sys.executable).with_name("aiopoll")
    child = subprocess.run([command, "doctor"], capture_output=True, text=True, timeout=60)
    assert (child.returncode, child.stderr) == (0, "")


@pytest.mark.subprocess
@pytest.mark.parametrize("device", ["/dev/full", "closed pipe", "closed"])
def test_exit_status_is_right_where_output_fails(device: str):
    if device == "/dev/full":
        stdout = os.open(device, os.O_WRONLY)
    else:
        reader, stdout = os.pipe()
        os.close(reader)
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND] if device == "closed" else COMMAND
    try:
        child = subprocess.run(
            command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60
        )
    finally:
        os.close(stdout)
    assert (child.returncode, child.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["doctor", "superfluous"]])
def test_wrong_arguments_are_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: aiopoll" in capsys.readouterr().err


def test_help_names_the_subcommands(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    output = capsys.readouterr().out
    assert "doctor" in output
    assert "run" in output
