"""aiopoll top: shows what the event loops of a running process do, also while they are stuck."""

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiopoll.cli import top_lines
from aiopoll.cli.top_ask import History, NoReply, ask, monitored, process_of

if TYPE_CHECKING:
    from aiopoll.cli.top_screen import View

LIMIT = 300
RATE_S = 0.5
"""How long rates are taken over where they are printed once."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "top",
        help="show what the event loops of a running process do",
        description="Shows the event loops of a process that was started with AIOPOLL_MONITOR=1,"
        " by aiopoll run --monitor, or with EventLoop(monitor=True); without PID, lists such"
        " processes. Exit status 0: shown; 1: the process does not respond; 2: it has no monitor.",
    )
    parser.add_argument("pid", metavar="PID", type=int, nargs="?", help="the process")
    parser.add_argument("--once", action="store_true", help="print it once, as plain text")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    parser.add_argument(
        "--interval", metavar="SECONDS", type=_seconds, default=1.0, help="between two looks (1)"
    )
    parser.add_argument(
        "--limit", metavar="N", type=int, default=LIMIT, help=f"records of each kind ({LIMIT})"
    )
    parser.set_defaults(handler=_handle)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("seconds from 0.1 to 3600")
    return seconds


def _handle(arguments: argparse.Namespace) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files and tasks are anything
    try:
        if arguments.pid is None:
            return _list(arguments.json)
        once = arguments.once or arguments.json or not (sys.stdout.isatty() and sys.stdin.isatty())
        if once:
            return _once(arguments.pid, arguments.limit, arguments.json)
        return _watch(arguments.pid, arguments.limit, arguments.interval)
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # Python must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _once(pid: int, limit: int, as_json: bool) -> int:
    history = History()
    process = process_of(pid)
    if process is not None:
        history.cpu_share(process)
    try:
        history.take(ask(pid, limit))
        time.sleep(RATE_S)
        reply = ask(pid, limit)
        history.take(reply)
    except NoReply as error:
        return _report_silence(pid, error, as_json)
    process = process_of(pid)
    share = None if process is None else history.cpu_share(process)
    if as_json:
        print(json.dumps({**reply, "responds": True, "cpu": share}))
    else:
        print("\n".join(top_lines.plain(reply, process, share)))
    return 0


def _report_silence(pid: int, error: NoReply, as_json: bool) -> int:
    process = process_of(pid)
    threads = [] if process is None else process.threads
    if as_json:
        found = [
            {"tid": each.tid, "name": each.name, "state": each.state, "cpu": each.cpu}
            for each in threads
        ]
        line = {"version": 1, "pid": pid, "responds": False, "reason": str(error)}
        print(json.dumps({**line, "threads": found}))
    elif not error.silent:
        print(f"aiopoll top: {error}", file=sys.stderr)
    else:
        print(f"{top_lines.title(process, pid, None)}\n{error}\n")
        if process is not None:
            rows = top_lines.thread_rows(process)
            print("\n".join(top_lines.table(rows, top_lines.THREAD_HEADS)))
    return 1 if error.silent else 2


def _watch(pid: int, limit: int, interval: float) -> int:
    try:
        from aiopoll.cli.top_screen import View, show
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "rich":
            raise
        print(
            "aiopoll top: the screen needs rich: pip install 'aiopoll[top]', or use --once",
            file=sys.stderr,
        )
        return 2
    history = History()

    def look() -> "View":
        process = process_of(pid)
        share = None if process is None else history.cpu_share(process)
        reply: dict[str, Any] | None = None
        silence = ""
        try:
            reply = ask(pid, limit)
            history.take(reply)
        except NoReply as error:
            if not error.silent:
                raise
            silence = str(error)
        return View(pid, process, share, reply, silence)

    try:
        show(look, interval)
    except NoReply as error:
        print(f"aiopoll top: {error}", file=sys.stderr)
        return 2
    return 0


def _list(as_json: bool) -> int:
    found = list(_processes())
    if as_json:
        print(json.dumps({"version": 1, "processes": found}))
    elif not found:
        print(
            "no process has a monitor: start one with AIOPOLL_MONITOR=1 or aiopoll run --monitor",
            file=sys.stderr,
        )
    else:
        rows = [(str(each["pid"]), each["state"], each["tasks"], each["command"]) for each in found]
        print("\n".join(top_lines.table(rows, ("PID", "LOOPS", "TASKS", "COMMAND"))))
    return 0 if found else 2


def _processes() -> Iterator[dict[str, Any]]:
    for pid, _ in monitored():
        process = process_of(pid)
        if process is None:
            continue
        try:
            loops = ask(pid, 0)["loops"]
        except NoReply as error:
            if not error.silent:
                continue  # another process has the number now
            state, tasks = "no response", "-"
        else:
            state = ", ".join(
                "stuck" if top_lines.is_stuck(loop) else loop["state"] for loop in loops
            )
            state, tasks = state or "none", str(sum(loop["nr_tasks"] for loop in loops))
        yield {"pid": pid, "state": state, "tasks": tasks, "command": process.command}
