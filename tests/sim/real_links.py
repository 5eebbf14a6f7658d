"""Two network namespaces of this Linux, joined by a link with given figures.

Where the kernel has netem, the link is a veth pair with it. Elsewhere a process carries the packets
between two TUN devices, with a delay, a loss and a rate: the stacks at both ends are Linux's own.
In both, a packet has one segment, and packets do not overtake each other.
As a script, this file is that process.
"""

import contextlib
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

NAMES = (f"aiopoll-client-{os.getpid()}", f"aiopoll-server-{os.getpid()}")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001
# What one connection learns of the path is not for the next one. And the receive window is large at
# once: how fast it grows depends on how much memory a packet of the device takes.
SETTINGS = ("net.ipv4.tcp_no_metrics_save=1", "net.ipv4.tcp_rmem=4096 4194304 33554432")
# As long a message as the device takes.
MTU = 1500


@dataclass(frozen=True)
class Figures:
    """A link: the delay of a direction in seconds, plus up to `jitter`; loss; bytes a second."""

    delay: float
    jitter: float = 0.0
    loss: float = 0.0
    rate: float = 1.25e8


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def inside(name: str, *command: str) -> list[str]:
    return ["ip", "netns", "exec", name, *command]


def missing() -> str | None:
    """Return what this machine lacks for namespaces with a link, or None."""
    if os.geteuid() != 0:
        return "root"
    if lacking := [tool for tool in ("ip", "tc", "chrt") if shutil.which(tool) is None]:
        return ", ".join(lacking)
    probe = f"aiopoll-probe-{os.getpid()}"
    try:
        run("ip", "netns", "add", probe)
    except (OSError, subprocess.CalledProcessError):
        return "namespaces"
    run("ip", "netns", "del", probe)
    if not has_netem() and not Path("/dev/net/tun").exists():
        return "netem and TUN devices"
    return None


def has_netem() -> bool:
    """Whether this kernel has netem, built in or as a module."""
    probe = f"aiopoll-netem-{os.getpid()}"
    run("ip", "netns", "add", probe)
    try:
        run(*inside(probe, "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"))
    except (OSError, subprocess.CalledProcessError):
        return False
    finally:
        run("ip", "netns", "del", probe)
    return True


@contextlib.contextmanager
def linked(figures: Figures) -> Iterator[None]:
    """Make both namespaces and the link between them, and take them away again."""
    with contextlib.ExitStack() as stack:
        for name in NAMES:
            run("ip", "netns", "add", name)
            stack.callback(run, "ip", "netns", "del", name)
        if has_netem():
            _join_by_netem(figures)
        else:
            command = [sys.executable, __file__, json.dumps(asdict(figures)), *NAMES]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for name, address in zip(NAMES, ADDRESSES, strict=True):
            run(*inside(name, "ip", "addr", "add", f"{address}/24", "dev", "link0"))
            run(*inside(name, "ip", "link", "set", "dev", "link0", "up"))
            run(*inside(name, "sysctl", "-qw", *SETTINGS))
        yield


def _join_by_netem(figures: Figures) -> None:
    one, two = NAMES
    run(
        *("ip", "link", "add", "name", "link0", "netns", one, "gso_max_segs", "1"),
        *("type", "veth", "peer", "name", "link0", "netns", two),
    )
    for name in NAMES:
        run(*inside(name, "ip", "link", "set", "dev", "link0", "gso_max_segs", "1"))
        # netem's jitter is on both sides of its delay; with a rate, packets keep their order.
        middle = (figures.delay + figures.jitter / 2) * 1000
        run(
            *inside(name, "tc", "qdisc", "add", "dev", "link0", "root", "netem"),
            *("limit", "100000", "delay", f"{middle}ms", f"{figures.jitter * 500}ms"),
            *("loss", f"{figures.loss * 100}%", "rate", f"{int(figures.rate * 8)}bit"),
        )


def _open_tun(name: str, home: int) -> int:
    """Make link0 in the namespace `name`, and return to that of `home`."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{name}") as there:
        if libc.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"link0", IFF_TUN_NO_PI))
    libc.setns(home, CLONE_NEWNET)
    return fd


def carry(figures: Figures, names: list[str]) -> None:
    """Move packets between devices in two namespaces for ever."""
    with open("/proc/self/ns/net") as home:
        fds = [_open_tun(name, home.fileno()) for name in names]
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    print("ready", flush=True)
    rng = random.Random(1)
    waiting: list[tuple[float, int, int, bytes]] = []
    busy = [0.0, 0.0]
    last = [0.0, 0.0]
    number = 0
    while True:
        timeout = None
        if waiting:
            timeout = max(waiting[0][0] - time.monotonic(), 0)
        for fd in select.select(fds, [], [], timeout)[0]:
            way = fds.index(fd)
            while True:
                try:
                    packet = os.read(fd, 2 * MTU)
                except (BlockingIOError, OSError):
                    break
                now = time.monotonic()
                if rng.random() < figures.loss:
                    continue
                # With the 14 bytes of an Ethernet header, as netem counts.
                busy[way] = max(busy[way], now) + (len(packet) + 14) / figures.rate
                due = busy[way] + figures.delay + rng.random() * figures.jitter
                last[way] = due = max(due, last[way])
                number += 1
                heapq.heappush(waiting, (due, number, fds[1 - way], packet))
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, target, packet = heapq.heappop(waiting)
            with contextlib.suppress(OSError):
                os.write(target, packet)


if __name__ == "__main__":
    carry(Figures(**json.loads(sys.argv[1])), sys.argv[2:])
