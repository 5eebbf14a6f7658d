"""loop._transports: the transport of a descriptor, looked up as asyncio and servers do."""

import asyncio
import gc
import socket
import warnings

import pytest

import aiopoll


class Kept(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.pause_reading()  # type: ignore[attr-defined]


def test_it_is_a_mapping_of_all_that_live(loop: aiopoll.EventLoop) -> None:
    async def main() -> None:
        table = loop._transports
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            stream, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            datagram, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
            )
            fds = [t.get_extra_info("socket").fileno() for t in (stream, datagram)]
            assert sorted(table) == sorted(table.keys()) == sorted(fds)
            assert [table[fd] for fd in fds] == [table.get(fd) for fd in fds] == [stream, datagram]
            assert set(table.values()) == {stream, datagram}
            assert dict(table.items()) == dict(zip(fds, [stream, datagram], strict=True))
            assert len(table) == 2
            assert fds[0] in table
            assert str(fds[0]) in repr(table)
            for missing in (theirs.fileno(), 1 << 20, -1):
                assert missing not in table
                assert table.get(missing, "none") == "none"
                with pytest.raises(KeyError):
                    table[missing]
                with pytest.raises(KeyError):
                    del table[missing]
                assert table.pop(missing, None) is None
            with pytest.raises(RuntimeError, match="is used by transport"):
                loop.add_reader(fds[0], print)
            stream.close()
            datagram.close()
            await asyncio.sleep(0.01)
            assert fds[0] not in table
            del stream, datagram, _  # asyncio's own stay until they are dropped
            gc.collect()
            assert len(table) == 0

    loop.run_until_complete(main())


def test_transport_removed_by_hand_is_gone(loop: aiopoll.EventLoop) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            fd = ours.fileno()
            assert loop._transports.pop(fd) is transport
            assert fd not in loop._transports
            loop._transports[fd] = transport
            del loop._transports[fd]
            assert fd not in loop._transports
            transport.abort()
            await asyncio.sleep(0)

    loop.run_until_complete(main())


@pytest.mark.slow
@pytest.mark.parametrize("raising", [False, True])
def test_a_transport_that_is_dropped_leaves_the_table(
    loop: aiopoll.EventLoop, raising: bool
) -> None:
    """It keeps none alive, also where the warning about it is an exception."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            transport, _ = await loop.create_connection(Kept, sock=ours)
            fd = ours.fileno()
            del ours
            with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
                patch.setattr("sys.unraisablehook", lambda _: None)
                warnings.simplefilter("error" if raising else "ignore")
                del transport, _
                gc.collect()
                await asyncio.sleep(0)
                gc.collect()
            assert fd not in loop._transports
            assert theirs.recv(1) == b""

    loop.run_until_complete(main())
