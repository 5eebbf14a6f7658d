"""Traces to what is no regular file: a device, a FIFO, a link keep their place."""

import asyncio
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

import aiopoll
from aiopoll.loop.monitor.tracing import own_path


def trace(path: Path) -> None:
    loop = aiopoll.EventLoop()
    try:
        loop.start_trace(path)
        loop.run_until_complete(asyncio.sleep(0))
        loop.stop_trace()
    finally:
        loop.close()


def test_a_link_stays_one(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("before")
    link.symlink_to(real)
    trace(link)
    assert link.is_symlink()
    assert json.loads(real.read_text())["traceEvents"]


def test_a_fifo_gets_the_trace(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(fd, True)
    texts: list[str] = []
    with open(fd) as reader:
        thread = threading.Thread(target=lambda: texts.append(reader.read()))
        keeper = os.open(path, os.O_WRONLY)  # until then a reader finds the end
        thread.start()
        try:
            trace(path)
        finally:
            os.close(keeper)
            thread.join()
    assert json.loads(texts[0])["traceEvents"]
    assert stat.S_ISFIFO(os.lstat(path).st_mode)


def test_a_fifo_without_a_reader_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(OSError, match="cannot write the trace"):
        trace(path)
    assert stat.S_ISFIFO(os.lstat(path).st_mode)


def test_a_device_is_written_to(tmp_path: Path) -> None:
    link = tmp_path / "full"  # of the device itself a test should not make a file
    link.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        trace(link)
    assert os.readlink(link) == "/dev/full"


def test_a_child_makes_no_file_beside_a_device() -> None:
    assert own_path("/dev/null") == "/dev/null"
    assert own_path("/dev/absent") == "/dev/absent.%p"


def test_a_link_to_a_new_file_makes_it(tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "new.json")
    trace(link)
    assert json.loads((tmp_path / "new.json").read_text())["traceEvents"]


def test_a_link_into_a_missing_folder_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "gone" / "real.json")
    loop: Any = aiopoll.EventLoop()
    try:
        with pytest.raises(FileNotFoundError):
            loop.start_trace(link)
    finally:
        loop.close()
