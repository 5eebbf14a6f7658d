"""Child processes that a test waits for by their output, and that never outlive it."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

LIMIT_S = 60
ATTEMPTS = 3

NO_PRELOAD = {"LD_PRELOAD": ""}
"""For servers that are not Python's: the sanitizers' libraries, if they are preloaded, are not
for them."""

TROUBLE = ["Traceback", "Exception ignored", "ResourceWarning", "Task was destroyed", "Unclosed"]


class Child:
    """A process with its own process group; its output on both streams is kept in `lines`."""

    def __init__(
        self, command: Sequence[str | Path], env: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        self.lines: list[str] = []
        self._printed = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **options,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._printed:
                self.lines.append(line.rstrip("\n"))
                self._printed.notify_all()
        with self._printed:
            self._ended = True
            self._printed.notify_all()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, text: str, *, count: int = 1) -> str:
        """Line number `count` of those with `text`; AssertionError if the child ends before it."""
        with self._printed:
            while True:
                found = [line for line in self.lines if text in line]
                if len(found) >= count:
                    return found[count - 1]
                assert not self._ended, f"ended without printing {text!r}:\n{self.output}"
                assert self._printed.wait(LIMIT_S), f"no {text!r} in time:\n{self.output}"

    def check_quiet(self) -> None:
        """Raises AssertionError if its output shows a leak or a failure."""
        for sign in TROUBLE:
            assert sign not in self.output, self.output

    def finish(self, signal_number: int | None = None) -> int:
        """Sends the signal, if one is named; the exit status once the process has ended."""
        if signal_number is not None:
            self.process.send_signal(signal_number)
        status = self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        return status

    def kill(self) -> None:
        """Kills the rest of the child and of its own children."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


def start_on_free_port(
    command: Callable[[int], Sequence[str]], ready: str, **options: Any
) -> tuple[Child, int]:
    """Starts command(port) and waits until it prints `ready`: (the Child, its port).

    Tries again, for a port that was free may be taken before the child has it.
    """
    for attempt in range(1, ATTEMPTS + 1):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
        child = Child(command(port), **options)
        try:
            child.wait_for(ready)
            return child, port
        except AssertionError:
            child.kill()
            if attempt == ATTEMPTS:
                raise
        except BaseException:
            child.kill()
            raise
    raise AssertionError("not reached")


def python(*arguments: str | Path) -> list[str | Path]:
    """The command that runs Python such that destructors warn of files left open."""
    return [sys.executable, "-W", "always::ResourceWarning", *arguments]


def reply_from(port: int | str, server: Child | None = None) -> str:
    """The body of the page; an application has started some time before its socket listens.

    Raises AssertionError if it does not in time, or if the server, where it is given, ends before.
    """
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=LIMIT_S) as reply:
                text: str = reply.read().decode()
                return text
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):
                raise
        output = server.output if server is not None else ""
        assert server is None or server.process.poll() is None, output
        assert time.monotonic() < deadline, f"nothing listens at port {port}: {output}"
        time.sleep(0.01)
