"""Streams between machines: loss, partitions, power cuts, timers and ends."""

import gc
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from aiopoll.kernel.net.socket import (
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT2,
    Net,
)
from aiopoll.kernel.net.tcp import tcp_ops
from aiopoll.kernel.net.tcp_input import TcpSock
from aiopoll.kernel.net.tcp_transfer import Transfer
from aiopoll.sim.tape import tape_of

from .machines import Machines, accept, close, error_of, receive, send

TCP = socket.IPPROTO_TCP


def option(sk: TcpSock, level: int, name: int, value: int) -> None:
    assert tcp_ops.setsockopt is not None
    assert tcp_ops.setsockopt(sk, level, name, value)


def machines_with_pair(
    **more: Any,
) -> tuple[Machines, Net, Net, TcpSock, TcpSock]:
    machines = Machines(**more)
    one, two = machines.host("one"), machines.host("two")
    return machines, one, two, *machines.pair(one, two)


def carry(machines: Machines, sender: TcpSock, receiver: TcpSock, data: bytes) -> bytes:
    """Send `data`, as the buffers allow, until it is there or nothing happens any more."""
    sent, got = 0, bytearray()
    while len(got) < len(data):
        if sent < len(data) and sender.sndbuf > sender.wmem:
            sent += send(sender, data[sent : sent + 100_000])
        machines.sched.run_pending()
        if not machines.sched.fire_timer():
            break
        machines.sched.run_pending()
        if receiver.receive_buffer:
            got += receive(receiver)
    return bytes(got)


def whats(machines: Machines, source: str) -> list[str]:
    return [packet["what"] for packet in machines.packets if packet["src"] == source]


# Loss


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("loss", [0.0, 0.02, 0.3])
def test_loss_changes_no_bytes(seed: int, loss: float) -> None:
    machines = Machines(tape_of(seed, "uniform"), latency=(0.0001, 0.02))
    one, two = machines.host("one"), machines.host("two")
    machines.network.link("one", "two", loss=loss)
    client, server = machines.pair(one, two)
    data = machines.sched.clock.now_ns.to_bytes(8, "big") + bytes(range(256)) * 2000
    assert carry(machines, client, server, data) == data
    assert carry(machines, server, client, data[::-1]) == data[::-1]
    # A round trip is no longer for a segment that waited behind a lost one.
    assert client.transfer is not None
    assert 0 < client.transfer.srtt_ns < 100_000_000
    close(client)
    machines.run(100)
    assert receive(server) == b""
    close(server)
    machines.run(1000)
    assert (client.state, server.state) == (TCP_CLOSE, TCP_CLOSE)
    if loss > 0.1:
        assert machines.network.effects["one>two loss: packets lost"] > 0


def test_segments_stay_in_order_on_uneven_links() -> None:
    machines, _, _, client, server = machines_with_pair(latency=(0.0001, 0.5))
    for number in range(50):
        send(client, b"%03d" % number)
        machines.run(0.001)
    machines.run(2)
    assert receive(server) == b"".join(b"%03d" % number for number in range(50))
    # In the order of their arrival.
    packets = [packet for packet in machines.packets if packet["src"] == "one"]
    for moment in ("sent_ns", "arrive_ns"):
        moments = [packet[moment] for packet in packets]
        assert moments == sorted(set(moments))


def test_a_lost_segment_costs_a_timeout() -> None:
    machines, _, _, client, server = machines_with_pair(latency=0.01)
    machines.network.link("one", "two", loss=1.0)
    send(client, b"data")
    machines.run(0.1)
    machines.network.link("one", "two", loss=0.0)
    begin = machines.now - 0.1
    while not server.receive_buffer:
        machines.sched.fire_timer()
    # The timeout is the round trip, 20 ms, and 200 ms.
    assert machines.now - begin == pytest.approx(0.23, abs=0.001)
    assert receive(server) == b"data"


def test_what_follows_shows_a_loss_at_once() -> None:
    machines, _, _, client, server = machines_with_pair(latency=0.01)
    machines.network.link("one", "two", loss=1.0)
    send(client, b"first")
    machines.network.link("one", "two", loss=0.0)
    for _ in range(2):
        machines.run(0.001)
        send(client, b"later")
    begin = machines.now
    machines.run(0.04)
    assert receive(server) == b"firstlaterlater"
    assert machines.now - begin < 0.2
    assert whats(machines, "one").count("data") == 4


def test_a_lost_tail_is_probed_for() -> None:
    machines, _, _, client, server = machines_with_pair(latency=0.01)
    send(client, b"first")
    machines.network.link("one", "two", loss=1.0)
    machines.run(0.001)
    send(client, b"last")
    machines.network.link("one", "two", loss=0.0)
    # Two round trips later, and not after a timeout.
    machines.run(0.08)
    assert receive(server) == b"firstlast"


@pytest.mark.parametrize("loss", [0.0, 0.001])
def test_each_segment_has_its_chance_to_be_lost(loss: float) -> None:
    machines, _, _, client, server = machines_with_pair()
    machines.network.link("one", "two", loss=loss)
    send(client, bytes(14_480))
    machines.run(1)
    assert len(receive(server)) == 14_480
    assert whats(machines, "one").count("data") == (10 if loss else 1)


@pytest.mark.parametrize("lost", ["SYN", "SYN-ACK", "ACK"])
def test_a_connection_survives_a_lost_opening(lost: str) -> None:
    machines = Machines()
    one, two = machines.host("one"), machines.host("two")
    listener = machines.listen(two)
    client = machines.connect(one, "10.0.0.2")
    sender, receiver = ("two", "one") if lost == "SYN-ACK" else ("one", "two")
    if lost != "SYN":
        machines.run(0.005 if lost == "SYN-ACK" else 0.015)
    else:
        # The first one is on its way already.
        machines.network.detach("two")
        machines.run(0.02)
        machines.network.attach("two", "10.0.0.2", two)
        two.up = True
    machines.network.link(sender, receiver, loss=1.0)
    machines.run(0.03)
    machines.network.link(sender, receiver, loss=0.0)
    assert not listener.accept_queue
    machines.run(1.1)
    child = accept(listener)
    assert client.state == child.state == TCP_ESTABLISHED
    assert not listener.accept_queue
    send(client, b"there")
    send(child, b"back")
    machines.run(1)
    assert (receive(child), receive(client)) == (b"there", b"back")


def test_data_completes_an_opening() -> None:
    machines = Machines()
    one, two = machines.host("one"), machines.host("two")
    listener = machines.listen(two)
    client = machines.connect(one, "10.0.0.2")
    machines.run(0.015)
    machines.network.link("one", "two", loss=1.0)
    machines.run(0.01)
    machines.network.link("one", "two", loss=0.0)
    send(client, b"data")
    machines.run(0.015)
    assert receive(accept(listener)) == b"data"


def test_a_full_listener_makes_clients_wait() -> None:
    machines = Machines()
    one, two = machines.host("one"), machines.host("two")
    listener = machines.listen(two, backlog=0)
    clients = [machines.connect(one, "10.0.0.2") for _ in range(3)]
    machines.run(0.9)
    assert len(listener.accept_queue) == 1
    for _ in clients:
        accept(listener)
        machines.run(4)
    assert [client.state for client in clients] == [TCP_ESTABLISHED] * 3


def test_a_listener_that_closed_resets_late_ones() -> None:
    machines = Machines()
    one, two = machines.host("one"), machines.host("two")
    listener = machines.listen(two)
    client = machines.connect(one, "10.0.0.2")
    machines.run(0.025)
    close(listener)
    machines.run(1)
    assert error_of(client) == "ECONNRESET"
    assert two.connections == {}


def test_the_window_opens_although_its_ack_is_lost() -> None:
    machines, _, _, client, server = machines_with_pair()
    data = bytes(300_000)
    sent = 0
    for _ in range(20):
        if client.sndbuf > client.wmem:
            sent += send(client, data[sent : sent + 50_000])
        machines.run(0.1)
    assert client.window == 0
    machines.network.partition(["two"], ["one"], oneway=True)
    got = receive(server)
    machines.run(5)
    machines.network.heal()
    machines.run(10)
    got += receive(server)
    assert len(got) > 65_536
    assert "probe" in whats(machines, "one")


def test_a_shut_window_is_probed_for_ever() -> None:
    machines, _, _, client, server = machines_with_pair()
    while client.sndbuf > client.wmem:
        send(client, bytes(50_000))
        machines.run(1)
    machines.run(5000)
    assert client.state == server.state == TCP_ESTABLISHED
    receive(server)
    machines.run(200)
    assert receive(server)


# Partitions and power cuts


def test_a_partition_delays_what_was_sent() -> None:
    machines, _, _, client, server = machines_with_pair()
    machines.network.partition(["one"], ["two"])
    send(client, b"data")
    machines.run(30)
    assert not server.receive_buffer
    assert whats(machines, "one").count("data") == 8
    machines.network.heal()
    machines.run(30)
    assert receive(server) == b"data"
    assert machines.network.effects["partition one | two: packets lost"] == 8
    machines.run(1)
    assert client.wmem == 0


def test_a_sender_gives_up_after_a_quarter_of_an_hour() -> None:
    machines, _, _, client, server = machines_with_pair()
    machines.network.partition(["one"], ["two"])
    send(client, b"data")
    machines.run(920)
    assert client.state == TCP_ESTABLISHED
    machines.run(130)
    assert error_of(client) == "ETIMEDOUT"
    assert client.state == TCP_CLOSE
    # The peer notices nothing.
    machines.run(100_000)
    assert server.state == TCP_ESTABLISHED
    machines.network.heal()
    send(server, b"data")
    machines.run(1)
    assert error_of(server) == "ECONNRESET"


def test_a_connect_gives_up_after_127_seconds() -> None:
    machines = Machines()
    one = machines.host("one")
    machines.host("two")
    machines.network.partition(["one"], ["two"])
    client = machines.connect(one, "10.0.0.2")
    machines.run(126.9)
    assert client.state != TCP_CLOSE
    sent = [packet["sent_ns"] / 1e9 for packet in machines.packets]
    assert sent == [0, 1, 3, 7, 15, 31, 63]
    machines.run(0.2)
    assert error_of(client) == "ETIMEDOUT"


def test_a_user_timeout_ends_the_waiting() -> None:
    machines, _, _, client, _ = machines_with_pair()
    option(client, TCP, socket.TCP_USER_TIMEOUT, 5000)
    machines.network.partition(["one"], ["two"])
    send(client, b"data")
    machines.run(4.9)
    assert client.state == TCP_ESTABLISHED
    machines.run(0.2)
    assert error_of(client) == "ETIMEDOUT"


@pytest.mark.parametrize("keepalive", [False, True])
def test_a_power_cut_is_noticed_by_those_that_ask(keepalive: bool) -> None:
    machines, _, _, client, server = machines_with_pair()
    if keepalive:
        option(server, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        option(server, TCP, socket.TCP_KEEPIDLE, 10)
        option(server, TCP, socket.TCP_KEEPINTVL, 5)
        option(server, TCP, socket.TCP_KEEPCNT, 3)
    machines.run(100)
    # Probes were sent and taken.
    assert ("probe" in whats(machines, "two")) is keepalive
    assert server.state == TCP_ESTABLISHED
    send(client, b"data")
    machines.network.detach("one")
    machines.run(36)
    assert (error_of(server) == "ETIMEDOUT") is keepalive
    machines.run(100_000)
    assert (server.state == TCP_CLOSE) is keepalive
    # What has no power does nothing, not even by its timers.
    assert client.state == TCP_ESTABLISHED
    assert len(machines.sched.clock) == 0


def test_keepalive_is_two_hours_unless_set() -> None:
    machines, _, _, client, _ = machines_with_pair()
    option(client, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    machines.network.detach("two")
    machines.run(7200 + 8 * 75)
    assert client.state == TCP_ESTABLISHED
    machines.run(76)
    assert error_of(client) == "ETIMEDOUT"


def test_a_new_life_resets_old_connections() -> None:
    machines, _, _, client, _ = machines_with_pair()
    machines.network.detach("two")
    send(client, b"first")
    machines.run(1)
    assert client.state == TCP_ESTABLISHED
    again = machines.listen(machines.host("two"))
    machines.run(2)
    assert error_of(client) == "ECONNRESET"
    with pytest.raises(BrokenPipeError):
        send(client, b"second")
    fresh = machines.connect(client.net, "10.0.0.2")
    machines.run(1)
    assert fresh.state == TCP_ESTABLISHED
    assert accept(again).peer_host == "10.0.0.1"


def test_a_known_name_in_a_new_life_is_reset() -> None:
    machines, _, _, client, server = machines_with_pair()
    machines.network.detach("one")
    one = machines.host("one")
    one.next_port = client.port
    fresh = machines.connect(one, "10.0.0.2")
    assert fresh.port == client.port
    machines.run(0.5)
    assert error_of(server) == "ECONNRESET"
    machines.run(1)
    assert fresh.state == TCP_ESTABLISHED


def test_a_reset_meets_both_ends() -> None:
    machines, _, two, client, server = machines_with_pair()
    three = machines.host("three")
    others = machines.pair(three, two)
    assert machines.network.reset("two", "one") == 1
    machines.run()
    assert error_of(client) == error_of(server) == "ECONNRESET"
    assert [sk.state for sk in others] == [TCP_ESTABLISHED] * 2
    assert machines.network.reset("two", "one") == 0
    assert machines.network.effects["reset two one: connections reset"] == 1


# Ends


def test_a_fin_is_sent_until_it_is_there() -> None:
    machines, _, _, client, server = machines_with_pair()
    machines.network.partition(["one"], ["two"])
    close(client)
    machines.run(10)
    machines.network.heal()
    machines.run(10)
    assert receive(server) == b""
    assert client.state == TCP_FIN_WAIT2
    # And so is the answer to it.
    machines.network.partition(["one"], ["two"], oneway=True)
    close(server)
    machines.run(10)
    assert server.state != TCP_CLOSE
    assert client.state == TCP_CLOSE
    machines.network.heal()
    machines.run(20)
    assert server.state == TCP_CLOSE
    assert error_of(server) == ""
    assert machines.packets[-1]["what"] == "ACK"


def test_an_orphan_waits_a_minute_for_the_other_fin() -> None:
    machines, one, _, client, server = machines_with_pair()
    close(client)
    machines.run(59)
    assert client.state == TCP_FIN_WAIT2
    machines.run(2)
    assert client.state == TCP_CLOSE
    send(server, b"late")
    machines.run(1)
    assert error_of(server) in ("EPIPE", "ECONNRESET")
    assert ("tcp", client.port) not in one.bound


def test_an_orphan_gives_up_sooner() -> None:
    machines, one, _, client, _ = machines_with_pair()
    machines.network.detach("two")
    send(client, b"data")
    close(client)
    machines.run(90)
    assert client.state != TCP_CLOSE
    machines.run(60)
    assert client.state == TCP_CLOSE
    assert one.bound == {}
    assert len(machines.sched.clock) == 0


def test_unread_data_resets_the_sender() -> None:
    machines, _, _, client, server = machines_with_pair()
    send(client, b"data")
    machines.run(0.1)
    close(server)
    machines.run(0.1)
    assert error_of(client) == "ECONNRESET"


def test_acks_wait_for_data_to_go_with() -> None:
    machines, _, _, client, server = machines_with_pair(latency=0.01)
    send(client, b"request")
    machines.run(0.015)
    receive(server)
    send(server, b"reply")
    machines.run(0.02)
    assert whats(machines, "two") == ["data"]
    machines.run(1)
    # The reply is acknowledged after 40 ms.
    assert whats(machines, "one") == ["data", "ACK"]
    assert machines.packets[-1]["sent_ns"] - machines.packets[-2]["arrive_ns"] == 40_000_000


def test_a_window_doubles_each_round_trip() -> None:
    machines, _, _, client, server = machines_with_pair(latency=0.1)
    begin = machines.sched.clock.now_ns
    assert len(carry(machines, client, server, bytes(200_000))) == 200_000
    rounds: dict[int, int] = {}
    for packet in machines.packets:
        if packet["what"] == "data":
            number = round((packet["sent_ns"] - begin) / 200_000_000)
            segments = -(-packet["size"] // 1514)
            rounds[number] = rounds.get(number, 0) + segments
    # A segment more where the window's end cuts one.
    assert [rounds[0], rounds[1], rounds[2]] == [10, 20, pytest.approx(40, abs=1)]


# Memory


@pytest.fixture
def without_collector() -> Iterator[None]:
    """What is freed is freed by its last reference."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("end", ["closed", "reset", "refused"])
def test_ended_connections_are_freed(without_collector: None, end: str) -> None:
    # Worlds that other tests keep, by the errors that ended them, have connections of their own.
    others = {id(thing) for thing in gc.get_objects() if type(thing) in (Transfer, TcpSock)}
    machines = Machines()
    one, two = machines.host("one"), machines.host("two")
    if end != "refused":
        listener = machines.listen(two)
    for _ in range(20):
        client = machines.connect(one, "10.0.0.2")
        machines.run(1)
        if end != "refused":
            server = accept(listener)
            send(client, b"data")
            machines.run(1)
            if end == "closed":
                receive(server)
            close(server)
            machines.run(1)
            del server
        close(client)
        machines.run(1)
        del client
    machines.packets.clear()
    kinds = [type(thing) for thing in gc.get_objects() if id(thing) not in others]
    assert kinds.count(Transfer) == 0
    assert kinds.count(TcpSock) == (end != "refused")
    assert not machines.network._flows
    assert one.connections == two.connections == {}
