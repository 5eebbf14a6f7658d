"""Children that cannot hang, and threads that are known to wait."""

import os
import select
import threading
import traceback
from collections.abc import Callable

import pytest

from aiopoll import Context

from .loops import CHILD_SECONDS_MAX


def call_in_child(function: Callable[[], object]) -> str:
    """Calls a function in a forked child; returns its result or exception, as text."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                answer = repr(function())
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            os.write(writer, answer.encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writer)
    try:
        poller = select.poll()
        poller.register(reader, select.POLLIN)
        if not poller.poll(CHILD_SECONDS_MAX * 1000):
            os.kill(pid, 9)
            pytest.fail("the child hangs")
        answer = os.read(reader, 65536).decode()
    finally:
        os.close(reader)
        _, status = os.waitpid(pid, 0)
    assert status == 0, f"the child ended with status {status}"
    return answer


class Waiter(threading.Thread):
    """A thread that has taken over a Context and is inside one call of it."""

    def __init__(self, context: Context, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.context, self.call = context, call
        self.answer: object = None
        self.error: BaseException | None = None
        self.start()
        while self.is_alive():
            # The guards check in this order: in use, then another thread's.
            try:
                context.events_pending()
            except RuntimeError as error:
                if "in use" in str(error):
                    break
            os.sched_yield()

    def run(self) -> None:
        try:
            self.context.adopt()
            self.answer = self.call()
        except BaseException as error:
            self.error = error

    def finish(self) -> object:
        """The call's result; raises its exception."""
        self.join(CHILD_SECONDS_MAX)
        assert not self.is_alive(), "the thread hangs"
        if self.error is not None:
            raise self.error
        return self.answer
