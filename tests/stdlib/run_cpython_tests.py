"""Runs CPython's own asyncio tests on our loop; a program of its own, started by the tests.

    run_cpython_tests.py GROUP OPTIONS

GROUP: a key of MIXINS (test cases that take a loop), or the name of a module of test.test_asyncio,
    which is then run with asyncio.new_event_loop replaced.
OPTIONS: JSON, the keyword arguments of new_event_loop; {"stock": true} for asyncio's own loop,
    {"tls": true} with its SSLProtocol replaced by ours;
    {"streams": true} with asyncio's stream functions and classes replaced by ours.

Each test runs in a forked child with a time cap, several at once: one that hangs or crashes costs
itself only.  Prints one JSON object: for each test "ok", "skipped", or the failure.
"""

import asyncio
import importlib
import json
import os
import selectors
import signal
import sys
import tempfile
import time
import traceback
import unittest
from collections.abc import Iterator
from typing import Any

import aiopoll
from aiopoll.loop.transports import tls

TIMED = {
    "TestSSL.test_remote_shutdown_receives_trailing_data": "gives its peer 0.2 s for its backlog",
}
"""Tests that wait a fixed time for another process or thread, and why: they have a second try."""

TIME_CAP_S = 100
CHILDREN = 4

# Group: (module, class).  The classes are those that CPython runs on select(); ours derive from
# them and bring another loop.
MIXINS = {
    "events": ("test_events", "SelectEventLoopTests"),
    "sock": ("test_sock_lowlevel", "SelectEventLoopTests"),
    "sendfile": ("test_sendfile", "SelectEventLoopTests"),
    "server": ("test_server", "SelectorStartServerTests"),
    "buffered": ("test_buffered_proto", "BufferedProtocolSelectorTests"),
    "starttls": ("test_sslproto", "SelectorStartTLSTests"),
}


def load(group: str, options: dict[str, Any]) -> unittest.TestSuite:
    stock = options.pop("stock", False)
    if options.pop("streams", False):
        replace_streams()
    if options.pop("tls", False):
        asyncio.sslproto.SSLProtocol = tls.TLSProtocol

    def new_loop(*_: object) -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop() if stock else aiopoll.new_event_loop(**options)

    if group in MIXINS:
        module_name, class_name = MIXINS[group]
        module = importlib.import_module(f"test.test_asyncio.{module_name}")
        base = getattr(module, class_name)
        case = type(class_name, (base,), {"create_event_loop": new_loop, "new_loop": new_loop})
        return unittest.defaultTestLoader.loadTestsFromTestCase(case)
    if not stock and group != "test_runners":  # which sets a policy
        asyncio.new_event_loop = asyncio.events.new_event_loop = new_loop
    module = importlib.import_module(f"test.test_asyncio.{group}")
    if group == "test_runners":
        module.BaseTest.new_loop = lambda _: noting_its_end(new_loop())
    return unittest.defaultTestLoader.loadTestsFromModule(module)


def noting_its_end(loop: Any) -> Any:
    """Adds the flag that test_runners reads: its own loops are BaseEventLoop with mocks."""

    async def shutdown_asyncgens() -> None:
        loop.shutdown_ag_run = True

    loop.shutdown_ag_run = False
    loop.shutdown_asyncgens = shutdown_asyncgens
    return loop


def replace_streams() -> None:
    aiopoll.accelerate_streams()
    for name in ("StreamReader", "StreamReaderProtocol", "StreamWriter"):
        for module in (asyncio, asyncio.streams):
            setattr(module, name, getattr(aiopoll, name))


def tests_of(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from tests_of(item)
        else:
            yield item


def run_in_child(test: unittest.TestCase) -> tuple[int, int]:
    """Starts the test; returns the pid and the descriptor that its result comes from."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    os.close(reader)
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(TIME_CAP_S)
        with tempfile.TemporaryDirectory() as directory:
            os.chdir(directory)
            result = unittest.TestResult()
            unittest.TestSuite([test]).run(result)
            problems = [text for _, text in result.errors + result.failures]
            if result.unexpectedSuccesses:
                problems.append("unexpected success")
            answer = "\n".join(problems) or ("skipped" if result.skipped else "ok")
            os.chdir("/")
    except BaseException:
        answer = traceback.format_exc()
    os.write(writer, answer.encode()[-60000:])
    os._exit(0)


def name_of(test: unittest.TestCase) -> str:
    return ".".join(test.id().split(".")[-2:])


def run(tests: list[unittest.TestCase]) -> dict[str, str]:
    results: dict[str, str] = {}
    waiting = list(reversed(tests))
    with selectors.DefaultSelector() as selector:
        while waiting or selector.get_map():
            while waiting and len(selector.get_map()) < CHILDREN:
                test = waiting.pop()
                pid, reader = run_in_child(test)
                selector.register(reader, selectors.EVENT_READ, (test, pid, []))
            for key, _ in selector.select():
                test, pid, parts = key.data
                part = os.read(key.fd, 65536)
                if part:
                    parts.append(part)
                    continue
                selector.unregister(key.fd)
                os.close(key.fd)
                _, status = os.waitpid(pid, 0)
                try:
                    os.killpg(pid, signal.SIGKILL)  # processes that it left behind
                except ProcessLookupError:
                    pass
                name = name_of(test)
                if os.WIFSIGNALED(status):
                    caught = signal.Signals(os.WTERMSIG(status)).name
                    parts = [f"killed by {caught} (SIGALRM: the time cap)".encode()]
                results[name] = b"".join(parts).decode() or f"exit status {status}"
    return results


def main() -> None:
    group, options = sys.argv[1], json.loads(sys.argv[2])
    started = time.monotonic()
    tests = list(tests_of(load(group, options)))
    results = run(tests)
    for test in tests:
        if name_of(test) in TIMED and results[name_of(test)] not in ("ok", "skipped"):
            results.update(run([test]))  # alone
    json.dump({"results": results, "took_s": time.monotonic() - started}, sys.stdout)


if __name__ == "__main__":
    main()
