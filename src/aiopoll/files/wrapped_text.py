"""WrappedTextFile: a text file of io's that is open already, with coroutines for methods."""

import functools
import io
from collections.abc import Callable, Iterable
from typing import Any

from aiopoll.files.held import NotReady, only_held
from aiopoll.files.wrapped import WrappedFile


class WrappedTextFile(WrappedFile[str]):
    """A text file that is open already: its methods as coroutines.  See aiopoll.wrap()."""

    _empty = ""

    def __init__(self, find: Callable[[], Any]) -> None:
        super().__init__(find)
        self._error: Exception | None = None  # comes after the text before it

    @property
    def buffer(self) -> Any:
        """The binary file under the text, unwrapped."""
        return self._file.buffer

    @property
    def encoding(self) -> str:
        """The name of the encoding."""
        encoding: str = self._file.encoding
        return encoding

    @property
    def errors(self) -> str | None:
        """The error handler of the encoding."""
        errors: str | None = self._file.errors
        return errors

    @property
    def newlines(self) -> str | tuple[str, ...] | None:
        """The kinds of newlines read so far."""
        newlines: str | tuple[str, ...] | None = self._file.newlines
        return newlines

    @property
    def line_buffering(self) -> bool:
        """Whether a write with a newline is flushed at once."""
        return bool(self._file.line_buffering)

    @property
    def write_through(self) -> bool:
        """Whether writes go to the binary file at once."""
        return bool(self._file.write_through)

    def _end_of_line(self, data: str) -> int:
        return data.find("\n") + 1

    def _take_held(self, buffer: io.BufferedReader, size: int, line: bool, at_end: bool) -> str:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        read = self._file.read
        characters: list[str] = []
        with only_held(buffer.raw, at_end):
            try:
                while len(characters) != size and (character := read(1)):
                    characters.append(character)
                    if line and character == "\n":
                        break
            except Exception as error:
                if not characters:
                    raise
                if not isinstance(error, NotReady):
                    self._error = error
        return "".join(characters)

    async def write(self, text: str, /) -> int:
        """Calls the file's write()."""
        return int(await self._do("write", text))

    async def writelines(self, lines: Iterable[str], /) -> None:
        """Calls the file's writelines()."""
        await self._do("writelines", lines)

    async def reconfigure(self, **options: Any) -> None:
        """Calls the file's reconfigure(): see io.TextIOWrapper."""
        async with self._one_by_one():
            reconfigure = functools.partial(self._file.reconfigure, **options)
            await self._run(reconfigure, own_thread=True)
