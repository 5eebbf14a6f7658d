"""Links between machines: addresses, delays, faults, names, and what each fault did."""

import errno
import math
import socket
from collections.abc import Callable

import pytest

from aiopoll.kernel.net.udp import udp_ops
from aiopoll.sim.tape import Plain, Tape, replay_of, tape_of

from .machines import (
    PORT,
    Machines,
    accept,
    all_datagrams,
    bind,
    close,
    error_of,
    receive,
    send,
    send_to,
)


def fails_with(code: int, call: Callable[[], object]) -> None:
    with pytest.raises(OSError, match=rf"\[Errno {code}\]"):
        call()


# Addresses


def test_machines_have_ports_of_their_own() -> None:
    machines = Machines()
    one, two = machines.host("one"), machines.host("two")
    listeners = [machines.listen(one), machines.listen(two)]
    for number, client in ((1, one), (2, one), (1, two), (2, two)):
        sk = machines.connect(client, f"10.0.0.{number}")
        machines.run(1)
        child = accept(listeners[number - 1])
        assert sk.address(True) == child.address(False) == (f"10.0.0.{number}", PORT)
        assert child.address(True)[0] == client.addresses[0] == sk.address(False)[0]


def test_loopback_stays_within_a_machine() -> None:
    machines = Machines()
    one, two = machines.host("one"), machines.host("two")
    machines.listen(two, "127.0.0.1")
    refused = machines.connect(one, "127.0.0.1")
    machines.run()
    assert error_of(refused) == "ECONNREFUSED"
    assert machines.packets == []
    refused = machines.connect(one, "10.0.0.2")
    machines.run(1)
    assert error_of(refused) == "ECONNREFUSED"
    assert [packet["what"] for packet in machines.packets] == ["SYN", "RST"]


def test_addresses_of_others_cannot_be_bound() -> None:
    machines = Machines()
    one = machines.host("one")
    machines.host("two")
    fails_with(errno.EADDRNOTAVAIL, lambda: machines.listen(one, "10.0.0.2"))
    fails_with(errno.EADDRNOTAVAIL, lambda: machines.listen(one, "10.0.0.9"))


def test_a_machine_reaches_its_own_addresses() -> None:
    machines = Machines()
    one = machines.host("one", "10.0.0.1", "10.0.0.11")
    listener = machines.listen(one)
    for address in one.addresses:
        client = machines.connect(one, address)
        machines.run()
        # From the address that it goes to, and not over the wire.
        assert client.address(False)[0] == accept(listener).address(True)[0] == address
    assert machines.packets == []


def test_addresses_of_nothing_are_unreachable() -> None:
    machines = Machines()
    one = machines.host("one")
    machines.host("two")
    fails_with(errno.ENETUNREACH, lambda: machines.connect(one, "10.0.0.9"))
    sk = machines.datagrams(one)
    fails_with(errno.ENETUNREACH, lambda: send_to(sk, b"data", "10.0.0.9"))
    # Of a family that the machine has no address of.
    fails_with(errno.ENETUNREACH, lambda: machines.connect(one, "fd00::2"))


def test_loopback_sends_to_no_other_machine() -> None:
    machines = Machines()
    one = machines.host("one")
    machines.host("two")
    sk = machines.connect(one, "127.0.0.1", 9)
    machines.run()
    close(sk)
    fresh = machines.datagrams(one, 5000)
    fresh.host = "127.0.0.1"
    fails_with(errno.EINVAL, lambda: send_to(fresh, b"data", "10.0.0.2"))


def test_machines_may_have_addresses_of_both_families() -> None:
    machines = Machines()
    one = machines.host("one", "10.0.0.1", "fd00::1")
    two = machines.host("two", "10.0.0.2", "fd00::2")
    listener = machines.listen(two, "::")
    machines.listen(two, "0.0.0.0")
    client = machines.connect(one, "fd00::2")
    machines.run(1)
    assert accept(listener).address(True)[0] == "fd00::1"
    assert client.address(False)[0] == "fd00::1"
    assert machines.network.resolve("one", "two") == ["10.0.0.2", "fd00::2"]


def test_an_address_has_one_owner() -> None:
    machines = Machines()
    machines.host("one")
    with pytest.raises(ValueError, match="is the address of one"):
        machines.host("two", "10.0.0.1")


# Delays


def test_a_packet_takes_the_latency_of_its_link() -> None:
    machines = Machines(latency=0.25)
    one, two = machines.host("one"), machines.host("two")
    sk, other = machines.datagrams(one), machines.datagrams(two)
    send_to(sk, b"there", "10.0.0.2")
    machines.run(0.2499)
    assert all_datagrams(other) == []
    machines.run(0.0001)
    assert all_datagrams(other) == [b"there"]


def test_the_plain_latency_is_the_lowest() -> None:
    machines = Machines(Tape(Plain()), latency=(0.001, 0.5))
    one, two = machines.host("one"), machines.host("two")
    sk = machines.datagrams(one)
    machines.datagrams(two)
    for _ in range(3):
        send_to(sk, b"data", "10.0.0.2")
    machines.run(1)
    assert [packet["arrive_ns"] for packet in machines.packets] == [1_000_000] * 3


def test_labels_say_which_link_and_what() -> None:
    machines = Machines(latency=(0.001, 0.5))
    one, two = machines.host("one"), machines.host("two")
    machines.network.link("one", "two", loss=0.5, duplicate=0.5, reorder=0.5)
    sk = machines.datagrams(one)
    machines.datagrams(two)
    for _ in range(20):
        send_to(sk, b"data", "10.0.0.2")
    machines.run(1)
    labels = {entry.label for entry in machines.tape.deviations}
    assert labels == {"one>two delay", "one>two loss", "one>two duplicate", "one>two reorder"}


def run_of(tape: Tape) -> list[object]:
    machines = Machines(tape, latency=(0.0001, 0.01))
    one, two = machines.host("one"), machines.host("two")
    machines.network.link("one", "two", loss=0.1, duplicate=0.1)
    client, server = machines.pair(one, two)
    sk, other = machines.datagrams(one, 90), machines.datagrams(two, 90)
    for number in range(20):
        send(client, bytes(1000))
        send_to(sk, b"%d" % number, "10.0.0.2", 90)
        machines.run(0.005)
    machines.run(10)
    assert len(receive(server)) == 20_000
    return [machines.packets, all_datagrams(other), machines.network.effects]


def test_one_tape_gives_one_run() -> None:
    tape = tape_of(3, "uniform")
    run = run_of(tape)
    assert run == run_of(tape_of(3, "uniform")) == run_of(replay_of(tape.deviations, seed=0))
    assert run != run_of(tape_of(4, "uniform"))


def test_bytes_take_time_on_a_slow_link() -> None:
    machines = Machines(latency=0.1)
    one, two = machines.host("one"), machines.host("two")
    machines.network.link("one", "two", bandwidth=1000)
    sk = machines.datagrams(one)
    machines.datagrams(two)
    for _ in range(3):
        send_to(sk, bytes(458), "10.0.0.2")
    machines.run(10)
    # 500 bytes with the headers: half a second each, one after another.
    arrivals = [packet["arrive_ns"] / 1e9 for packet in machines.packets]
    assert arrivals == [0.6, 1.1, 1.6]


def test_connections_share_the_bandwidth() -> None:
    def time_of(connections: int, *, twoway: bool = False) -> float:
        machines = Machines(latency=0.001)
        one, two = machines.host("one"), machines.host("two")
        machines.network.link("one", "two", bandwidth=1e6)
        pairs = [machines.pair(one, two) for _ in range(connections)]
        begin = machines.now
        for client, server in pairs:
            send(client, bytes(60_000))
            if twoway:
                send(server, bytes(60_000))
        machines.run(2)
        for _, server in pairs:
            assert len(receive(server)) == 60_000
        data = [packet["at_ns"] for packet in machines.packets if packet["what"] == "data"]
        return float(max(data) / 1e9 - begin)

    alone = time_of(1)
    assert alone == pytest.approx(0.064, abs=0.005)
    assert time_of(3) == pytest.approx(3 * alone, rel=0.1)
    # The directions do not share it.
    assert time_of(1, twoway=True) == pytest.approx(alone, rel=0.1)


# Faults of datagrams


def test_datagrams_are_lost_and_counted() -> None:
    machines = Machines()
    one, two = machines.host("one"), machines.host("two")
    machines.network.link("one", "two", loss=0.3, oneway=True)
    sk, other = machines.datagrams(one), machines.datagrams(two)
    for _ in range(200):
        send_to(sk, b"there", "10.0.0.2")
        send_to(other, b"back", "10.0.0.1")
    machines.run(1)
    lost = machines.network.effects["one>two loss: packets lost"]
    assert 30 < lost < 90
    assert len(all_datagrams(other)) == 200 - lost
    assert len(all_datagrams(sk)) == 200
    assert [packet["fate"] for packet in machines.packets].count("lost") == lost


def test_a_fault_without_effect_is_counted_too() -> None:
    machines = Machines()
    machines.host("one"), machines.host("two")
    machines.network.link("one", "two", loss=0.02, oneway=True)
    machines.network.partition(["one"], ["two"])
    machines.network.pause("two")
    machines.network.fail_name("two")
    machines.run(10)
    assert machines.network.effects == {
        "one>two loss: packets lost": 0,
        "partition one | two: packets lost": 0,
        "pause of two: packets held": 0,
        "name two: look-ups failed": 0,
    }


def test_datagrams_are_sent_twice() -> None:
    machines = Machines()
    one, two = machines.host("one"), machines.host("two")
    machines.network.link("one", "two", duplicate=0.2)
    sk, other = machines.datagrams(one), machines.datagrams(two)
    for number in range(100):
        send_to(sk, b"%d" % number, "10.0.0.2")
    machines.run(1)
    arrived = all_datagrams(other)
    twice = machines.network.effects["one>two duplicate: datagrams sent twice"]
    assert twice > 5
    assert len(arrived) == 100 + twice
    assert len(set(arrived)) == 100


def test_datagrams_are_overtaken() -> None:
    machines = Machines()
    one, two = machines.host("one"), machines.host("two")
    sk, other = machines.datagrams(one), machines.datagrams(two)

    def order() -> list[bytes]:
        for number in range(50):
            send_to(sk, b"%02d" % number, "10.0.0.2")
            machines.run(0.001)
        machines.run(1)
        return all_datagrams(other)

    assert order() == sorted(order())
    machines.network.link("one", "two", reorder=0.2)
    mixed = order()
    assert mixed != sorted(mixed)
    assert len(set(mixed)) == 50


def test_a_closed_port_refuses_datagrams() -> None:
    machines = Machines()
    one = machines.host("one")
    machines.host("two")
    sk = machines.datagrams(one)
    assert udp_ops.connect is not None
    udp_ops.connect(sk, ("10.0.0.2", 9), True)
    send_to(sk, b"data", "10.0.0.2", 9)
    machines.run(0.015)
    assert error_of(sk) == ""
    machines.run(0.005)
    assert error_of(sk) == "ECONNREFUSED"
    # One that is not connected hears nothing of it.
    loose = machines.datagrams(one, 9000)
    send_to(loose, b"data", "10.0.0.2", 9)
    machines.run(1)
    assert error_of(loose) == ""


# Faults of hosts


def test_packets_of_a_paused_host_wait() -> None:
    machines = Machines()
    one, two = machines.host("one"), machines.host("two")
    sk, other = machines.datagrams(one), machines.datagrams(two)
    machines.network.pause("two")
    send_to(sk, b"first", "10.0.0.2")
    send_to(sk, b"second", "10.0.0.2")
    send_to(other, b"back", "10.0.0.1")
    machines.run(100)
    assert all_datagrams(other) == all_datagrams(sk) == []
    assert [packet["fate"] for packet in machines.packets] == ["held", "held"]
    machines.network.resume("two")
    machines.run()
    assert all_datagrams(other) == [b"first", b"second"]
    machines.run(1)
    assert all_datagrams(sk) == [b"back"]
    assert machines.network.effects["pause of two: packets held"] == 3


def test_a_host_without_power_receives_nothing() -> None:
    machines = Machines()
    one, two = machines.host("one"), machines.host("two")
    sk, other = machines.datagrams(one), machines.datagrams(two)
    machines.network.detach("two")
    send_to(sk, b"lost", "10.0.0.2")
    send_to(other, b"never sent", "10.0.0.1")
    machines.run(1)
    assert all_datagrams(sk) == all_datagrams(other) == []
    assert machines.network.effects == {"two down: packets lost": 1}
    again = machines.datagrams(machines.host("two"))
    send_to(sk, b"there", "10.0.0.2")
    machines.run(1)
    assert all_datagrams(other) == []
    assert all_datagrams(again) == [b"there"]


def test_a_oneway_partition_cuts_one_direction() -> None:
    machines = Machines()
    nets = [machines.host(name) for name in ("one", "two", "three")]
    sockets = [machines.datagrams(net) for net in nets]
    machines.network.partition(["one"], ["two", "three"], oneway=True)

    def exchange() -> list[list[bytes]]:
        for number, sk in enumerate(sockets):
            for other in range(3):
                if other != number:
                    send_to(sk, b"%d" % number, f"10.0.0.{other + 1}")
        machines.run(1)
        return [sorted(all_datagrams(sk)) for sk in sockets]

    assert exchange() == [[b"1", b"2"], [b"2"], [b"1"]]
    # A second one on top, and the end of both.
    machines.network.partition(["one"], ["two"])
    assert exchange() == [[b"2"], [b"2"], [b"1"]]
    machines.network.heal()
    assert exchange() == [[b"1", b"2"], [b"0", b"2"], [b"0", b"1"]]
    assert machines.network.effects == {
        "partition one > two three: packets lost": 4,
        "partition one | two: packets lost": 2,
    }


def test_ports_of_a_new_life_are_others() -> None:
    machines = Machines()
    machines.host("two")
    ports = set()
    for _ in range(10):
        sk = machines.connect(machines.host("one"), "10.0.0.2")
        ports.add(sk.port)
        machines.network.detach("one")
    assert len(ports) == 10


# Names and values


def test_names_fail_for_a_time() -> None:
    machines = Machines()
    machines.host("one"), machines.host("two")
    resolve = machines.network.resolve
    assert resolve("one", "two") == ["10.0.0.2"]
    assert resolve("one", "10.0.0.9") == ["10.0.0.9"]
    assert resolve("one", "localhost") == ["127.0.0.1", "::1"]
    with pytest.raises(socket.gaierror) as caught:
        resolve("one", "three")
    assert caught.value.errno == socket.EAI_NONAME
    machines.network.fail_name("two", until=machines.now + 5)
    machines.run(4.9)
    with pytest.raises(socket.gaierror) as caught:
        resolve("one", "two")
    assert caught.value.errno == socket.EAI_AGAIN
    machines.run(0.1)
    assert resolve("one", "two") == ["10.0.0.2"]
    machines.network.fail_name("two", socket.EAI_NONAME)
    with pytest.raises(socket.gaierror) as caught:
        resolve("one", "two")
    assert caught.value.errno == socket.EAI_NONAME
    machines.network.heal_name("two")
    assert resolve("one", "two") == ["10.0.0.2"]


@pytest.mark.parametrize(
    "values",
    [
        {"loss": 1.5},
        {"loss": math.nan},
        {"duplicate": -0.1},
        {"reorder": 2},
        {"bandwidth": 0},
        {"latency": -1},
        {"latency": (2, 1)},
        {"latency": math.inf},
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, float]) -> None:
    machines = Machines()
    with pytest.raises(ValueError, match="not"):
        machines.network.link("one", "two", **values)  # type: ignore[arg-type]


def test_none_leaves_a_property() -> None:
    machines = Machines()
    one, two = machines.host("one"), machines.host("two")
    network = machines.network
    network.link("one", "two", loss=1.0, latency=0.5)
    network.link("one", "two", loss=0.0)
    sk, other = machines.datagrams(one), machines.datagrams(two)
    send_to(sk, b"data", "10.0.0.2")
    machines.run(0.499)
    assert all_datagrams(other) == []
    machines.run(0.001)
    assert all_datagrams(other) == [b"data"]


def test_unknown_hosts_are_refused() -> None:
    machines = Machines()
    machines.host("one")
    for call in (machines.network.detach, machines.network.pause, machines.network.resume):
        with pytest.raises(ValueError, match="no host 'two'; there are one"):
            call("two")


def test_ports_of_one_machine_are_taken() -> None:
    machines = Machines()
    one = machines.host("one")
    machines.listen(one, "10.0.0.1")
    fails_with(errno.EADDRINUSE, lambda: machines.listen(one, "0.0.0.0"))
    machines.listen(one, "127.0.0.1")
    sk = machines.datagrams(one, 1)
    fails_with(errno.EINVAL, lambda: bind(sk, ("10.0.0.1", 2)))
