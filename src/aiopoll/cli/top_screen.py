"""The screen of `aiopoll top`, refreshed in place.  It needs rich (the extra `top`)."""

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aiopoll.cli import top_lines
from aiopoll.cli.top_ask import Process
from aiopoll.loop.monitor.dump_text import printable

_STATE_STYLES = {"running": "green", "asleep": "cyan"}
_WIDE = 110
"""Columns from which on a table has its last one, too."""


def show(look: Callable[[], "View"], interval: float) -> None:
    """Shows what look() returns, each `interval` seconds, until q or Ctrl-C."""
    console = Console()
    with _keys(sys.stdin.fileno()), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(screen_of(look(), console.width, console.height), refresh=True)
            if _pressed_q(interval):
                return


class View:
    """What one look at the process has found."""

    def __init__(
        self,
        pid: int,
        process: Process | None,
        share: float | None,
        reply: dict[str, Any] | None,
        silence: str,
    ) -> None:
        self.pid = pid
        self.process = process
        self.share = share
        self.reply = reply
        self.silence = silence


@contextmanager
def _keys(fd: int) -> Iterator[None]:
    """Keys are read as they are pressed, and not shown."""
    try:
        before = termios.tcgetattr(fd)
    except termios.error:
        yield  # no terminal: Ctrl-C ends it
        return
    try:
        tty.setcbreak(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _pressed_q(seconds: float) -> bool:
    end = time.monotonic() + seconds
    fd = sys.stdin.fileno()
    while (left := end - time.monotonic()) > 0:
        ready, _, _ = select.select([fd], [], [], left)
        if ready:
            keys = os.read(fd, 64)
            if b"q" in keys or not keys:
                return True
    return False


def screen_of(view: View, width: int, height: int) -> RenderableType:
    """One screen; tables get the lines that are left, and say how many rows are not shown."""
    parts: list[RenderableType] = [
        _line(top_lines.title(view.process, view.pid, view.share), "bold")
    ]
    if view.silence:
        parts.append(Text(view.silence, style="bold red"))
        if view.process is not None:
            rows = top_lines.thread_rows(view.process)
            parts.append(_table(rows, top_lines.THREAD_HEADS, height - 4, width, (9, 16, 12, 9)))
        return Group(*parts)
    loops = view.reply["loops"] if view.reply else []
    if not loops:
        parts.append(Text("no event loop is open"))
    for at, loop in enumerate(loops):
        head = [_state(loop), _figures(loop)]
        used = 2 + sum(_height(part, width) for part in parts)
        room = (height - used) // (len(loops) - at)
        parts += [*head, *_tables(loop, room - sum(_height(part, width) for part in head), width)]
    return Group(*parts)


def _tables(loop: dict[str, Any], room: int, width: int) -> Iterator[RenderableType]:
    tasks, files = top_lines.task_rows(loop), top_lines.descriptor_rows(loop)
    file_lines = min(len(files) + 1, max(3, room // 3))
    task_lines = min(len(tasks) + 1, room - file_lines)
    file_lines = min(len(files) + 1, room - task_lines)
    if task_lines >= 2:
        yield _table(tasks, top_lines.TASK_HEADS, task_lines, width, (14, 6, 0, 22))
    if file_lines >= 2:
        yield _table(files, top_lines.DESCRIPTOR_HEADS, file_lines, width, (4, 12, 22, 9))


def _height(part: RenderableType, width: int) -> int:
    if isinstance(part, Text) and not part.no_wrap:
        return len(part.wrap(Console(width=width), width))
    return part.row_count + 1 if isinstance(part, Table) else 1


def _line(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _state(loop: dict[str, Any]) -> Text:
    style = "bold red" if top_lines.is_stuck(loop) else _STATE_STYLES.get(loop["state"], "")
    return _line(top_lines.state_line(loop), style)


def _figures(loop: dict[str, Any]) -> Text:
    text = Text()
    for name, value in top_lines.figures(loop):
        if text:
            text.append("  ")
        # A name and its number stay together where the line is broken.
        text.append(name.replace(" ", "\u00a0") + "\u00a0", style="dim").append(value, style="bold")
    return text


def _table(
    rows: list[tuple[str, str, str, str, str]],
    heads: tuple[str, ...],
    lines: int,
    width: int,
    widths: tuple[int, int, int, int],
) -> Table:
    """widths: of all columns but the last; 0 for what is left.  The last is for wide screens."""
    table = Table(box=None, padding=(0, 1, 0, 0), expand=True, header_style="reverse")
    flexible = 0 in widths
    shown = heads if width >= _WIDE or not flexible else heads[:-1]
    for at, head in enumerate(shown):
        fixed = widths[at] if at < len(widths) else 0
        ratio = None if fixed else 2 if at < len(widths) else 1
        table.add_column(head, width=fixed or None, ratio=ratio, no_wrap=True, overflow="ellipsis")
    room = max(lines - 1, 1)
    hidden = len(rows) - room
    for row in rows[: room - 1 if hidden > 0 else room]:
        style = "green" if row[2] == "running" else ""
        table.add_row(*(Text(printable(cell)) for cell in row[: len(shown)]), style=style)
    if hidden > 0:
        table.add_row("", "", Text(f"… {hidden + 1} more", style="dim"))
    return table
