"""Pipe transports: data, the end from both sides, flow control, pauses, modes that change."""

import asyncio
import gc
import os
import pty
import threading
import weakref
from typing import Any

import pytest
from tests.support.loops import until

import aiopoll
from aiopoll.loop.transports.datagram import DatagramTransport
from aiopoll.loop.transports.pipe import ReadPipeTransport, WritePipeTransport


@pytest.fixture(params=["aio", "one-slot", "syscall-reap", "epoll"])
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


class Recorder(asyncio.Protocol):
    """Records its callbacks."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.told: list[str] = []
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data

    def eof_received(self) -> None:
        self.told.append("eof")

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


async def pipe(loop: aiopoll.EventLoop) -> tuple[Recorder, Recorder]:
    """Both ends of a pipe, (reading, writing)."""
    reader, writer = os.pipe()
    _, reading = await loop.connect_read_pipe(Recorder, open(reader, "rb", 0))  # noqa: SIM115
    _, writing = await loop.connect_write_pipe(Recorder, open(writer, "wb", 0))  # noqa: SIM115
    assert isinstance(reading.transport, ReadPipeTransport | asyncio.ReadTransport)
    assert isinstance(writing.transport, WritePipeTransport | asyncio.WriteTransport)
    return reading, writing


@pytest.mark.parametrize("kind", [ReadPipeTransport, DatagramTransport])
def test_is_reading_does_not_come_from_asyncio(kind: type) -> None:
    """Debian 12 has Python 3.11.2, where asyncio's pipes and datagrams have none."""
    assert "is_reading" in vars(kind)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_data_that_does_not_fit_is_written_later_in_order(
    loop: aiopoll.EventLoop, kind: Any
) -> None:
    async def scenario() -> None:
        reading, writing = await pipe(loop)
        payload = bytes(range(256)) * 4096
        writing.transport.write(kind(b"head"))
        writing.transport.write(kind(payload))
        writing.transport.write(kind(b"tail"))
        assert writing.transport.get_write_buffer_size() > 0
        writing.transport.write_eof()
        await until(lambda: reading.lost and writing.lost)
        assert reading.data == b"head" + payload + b"tail"
        assert reading.told == ["eof"]
        assert writing.told[:2] == ["pause", "resume"]
        assert reading.lost == writing.lost == [None]

    loop.run_until_complete(scenario())


def test_writer_learns_that_the_reader_has_gone(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        reading, writing = await pipe(loop)
        reading.transport.close()
        await until(lambda: writing.lost)
        reading, writing = await pipe(loop)
        writing.transport.write(bytes(1 << 20))
        reading.transport.close()
        await until(lambda: writing.lost)
        assert isinstance(writing.lost[0], BrokenPipeError)

    loop.run_until_complete(scenario())


def test_a_transport_that_is_closed_waits_for_no_collector(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        reading, writing = await pipe(loop)
        references = [weakref.ref(reading.transport), weakref.ref(writing.transport)]
        writing.transport.close()
        await until(lambda: reading.lost and writing.lost)
        del reading.transport, writing.transport
        await asyncio.sleep(0)
        assert [reference() for reference in references] == [None, None]

    gc.disable()
    try:
        loop.run_until_complete(scenario())
    finally:
        gc.enable()


def test_reading_pauses_and_goes_on(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        reading, writing = await pipe(loop)
        for _ in range(3):
            reading.transport.pause_reading()
            writing.transport.write(b"x")
            for _ in range(4):
                await asyncio.sleep(0)
            before = reading.data
            reading.transport.resume_reading()
            await until(lambda before=before: reading.data == before + b"x")
        writing.transport.close()
        await until(lambda: reading.lost and writing.lost)

    loop.run_until_complete(scenario())


def test_a_terminal_is_read_and_written(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        master, slave = pty.openpty()
        _, ours = await loop.connect_read_pipe(Recorder, open(master, "rb", 0))  # noqa: SIM115
        os.write(slave, b"line\n")
        await until(lambda: ours.data == b"line\r\n")
        os.close(slave)
        await until(lambda: ours.lost)

    loop.run_until_complete(scenario())


def test_pipe_that_became_blocking_has_no_speculative_read(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        reading, writing = await pipe(loop)
        # Another process that has the same end of the pipe does this.
        os.set_blocking(reading.transport.get_extra_info("pipe").fileno(), True)
        for _ in range(50):
            writing.transport.write(b"x")
            await until(lambda: reading.data)
            reading.data = b""
        writing.transport.close()
        await until(lambda: reading.lost and writing.lost)

    watchdog = threading.Timer(60, os._exit, [1])
    watchdog.start()
    loop.run_until_complete(scenario())
    watchdog.cancel()


def test_exception_of_the_protocol_is_reported_and_harmless(
    loop: aiopoll.EventLoop,
) -> None:
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))

    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            raise ZeroDivisionError

    async def scenario() -> None:
        reader, writer = os.pipe()
        _, ours = await loop.connect_read_pipe(Failing, open(reader, "rb", 0))  # noqa: SIM115
        for data in (b"1", b"2"):
            os.write(writer, data)
            await until(lambda data=data: ours.data.endswith(data))
        os.close(writer)
        await until(lambda: ours.lost)
        assert len(reports) == 2

    loop.run_until_complete(scenario())
