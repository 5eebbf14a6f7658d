"""RESP, the protocol of Redis: commands from bytes, and replies to bytes.

A command is an array of bulk strings, or a line of words (inline; quotes mean nothing there).
https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

LINE_MAX = 64 << 10
ARGUMENTS_MAX = 64 << 10

OK = b"+OK\r\n"
NULL = {2: b"$-1\r\n", 3: b"_\r\n"}
"""By the version of the protocol, which clients choose with HELLO."""


class ProtocolError(Exception):
    """The input is no command, or too large a one."""


class CommandParser:
    """Makes commands of bytes, however they are cut."""

    def __init__(self, command_max: int) -> None:
        self.command_max = command_max
        self._buffer = bytearray()
        self._at = 0
        self._arguments: list[bytes] = []
        self._missing = 0  # arguments that are still to come
        self._length = -1  # of the argument that comes now
        self._size = 0

    def feed(self, data: bytes) -> None:
        del self._buffer[: self._at]
        self._at = 0
        self._buffer += data

    def next(self) -> list[bytes] | None:
        """The next command, [] for an empty one, None if it is not there as a whole."""
        while True:
            if self._length >= 0:
                end = self._at + self._length
                if len(self._buffer) < end + 2:
                    return None
                if self._buffer[end : end + 2] != b"\r\n":
                    raise ProtocolError("an argument is longer than was said")
                self._arguments.append(bytes(self._buffer[self._at : end]))
                self._at = end + 2
                self._length = -1
                self._missing -= 1
                if self._missing == 0:
                    return self._take()
                continue
            line = self._line()
            if line is None:
                return None
            if self._missing:
                if line[:1] != b"$":
                    raise ProtocolError(f"expected '$', got {line[:1].decode('latin-1')!r}")
                self._length = self._number(line, self.command_max, "bulk")
                self._size += self._length
                if self._size > self.command_max:
                    raise ProtocolError(f"a command has more than {self.command_max} bytes")
            elif line[:1] == b"*":
                if line == b"*-1":
                    return []
                self._missing = self._number(line, ARGUMENTS_MAX, "multibulk")
                if self._missing == 0:
                    return []
            else:
                return line.split()

    def _take(self) -> list[bytes]:
        arguments, self._arguments = self._arguments, []
        self._size = 0
        return arguments

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._at, self._at + LINE_MAX)
        if end < 0:
            if len(self._buffer) - self._at >= LINE_MAX:
                raise ProtocolError("too big inline request")
            return None
        line = bytes(self._buffer[self._at : end])
        self._at = end + 1
        return line.removesuffix(b"\r")

    def _number(self, line: bytes, number_max: int, what: str) -> int:
        digits = line[1:]
        if not digits.isdigit() or len(digits) > 10 or int(digits) > number_max:
            raise ProtocolError(f"invalid {what} length")
        return int(digits)


def error_reply(text: str) -> bytes:
    line = " ".join(text.split())
    return f"-{line[:500]}\r\n".encode(errors="replace")


def integer(value: int) -> bytes:
    return b":%d\r\n" % value


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def array(*items: bytes) -> bytes:
    return b"*%d\r\n" % len(items) + b"".join(items)
