"""Random calls on sockets, made on this kernel and on the Linux underneath.

After each call the readiness of every socket must be the same on both sides. Linux may be slow to
deliver, so it gets time to reach the state of the model, and never more than that.
"""

import errno
import os
import re
import shutil
import socket
import struct
import tempfile
import termios
import time

from aiopoll.kernel import Kernel

from .calls import PATIENCE_S, LinuxCalls

NB = os.O_NONBLOCK
UNIX, INET, INET6 = socket.AF_UNIX, socket.AF_INET, socket.AF_INET6
STREAM, DGRAM, SEQPACKET = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
SOCKETS = {
    "tcp": (INET, STREAM),
    "udp": (INET, DGRAM),
    "tcp6": (INET6, STREAM),
    "udp6": (INET6, DGRAM),
    "stream": (UNIX, STREAM),
    "dgram": (UNIX, DGRAM),
    "seqpacket": (UNIX, SEQPACKET),
}
PAIRS = {"stream pair": STREAM, "dgram pair": DGRAM, "seqpacket pair": SEQPACKET}
KINDS = (*SOCKETS, *PAIRS, "tcp pair", "itself")
OBJECTS_MAX = 10
OOB, PEEK, WAITALL = socket.MSG_OOB, socket.MSG_PEEK, socket.MSG_WAITALL
SIZES = (1, 0, 7, 500, 1400, 1, 3000, 60_000, 65_507, 65_508, 65_527, 65_528, 65_536, 300_000)
LIMIT = 1400
SOL = socket.SOL_SOCKET
# Linux draws these names.
AUTOBOUND = re.compile(rb"\0[0-9a-f]{5}")
ABORT = struct.pack("ii", 1, 0)
# The weight of each call.
CALLS = (
    *["make"] * 4,
    *["send", "receive", "connect", "sendto"] * 4,
    *["bind", "listen", "accept", "shutdown"] * 3,
    *["close", "names", "error", "disconnect", "itself"] * 2,
    *("abort", "reuse", "rights", "message", "dup2", "state", "buffer"),
)


class Side:
    """One kernel: the ports that it gave, by the order in which they were seen."""

    def __init__(self, calls):
        self.calls = calls
        self.ports = {}

    def answer(self, name, *arguments):
        try:
            result = getattr(self.calls, name)(*arguments)
        except OSError as exc:
            return errno.errorcode[exc.errno]
        return self.plain(result)

    def plain(self, result):
        """A result without what differs by nature: numbers of ports, directories."""
        if isinstance(result, tuple) and len(result) in (2, 4) and isinstance(result[1], int):
            host, port = result[:2]
            if isinstance(host, str):
                return host, port and self.ports.setdefault(port, len(self.ports))
        if isinstance(result, tuple):
            return tuple(map(self.plain, result))
        if isinstance(result, str):
            return os.path.basename(result)
        if isinstance(result, bytes) and AUTOBOUND.fullmatch(result):
            return "autobound"
        if isinstance(result, bytes) and len(result) > 20:
            return len(result), result[:5]
        return result


class Socket:
    """A socket on both sides: `fds` are its numbers."""

    def __init__(self, kind, model, linux):
        self.kind = kind
        self.fds = (model, linux)
        # A port with connections is kept by TIME_WAIT on Linux alone. Duplicates share the set.
        self.marks = set()

    @property
    def used(self):
        return bool(self.marks)

    @property
    def six(self):
        return self.kind.endswith("6")

    def use(self):
        self.marks.add("used")

    @property
    def unix(self):
        return self.kind in ("stream", "dgram", "seqpacket")


class SocketPair:
    """Both kernels, with the sockets that are open on them."""

    def __init__(self):
        self.directory = tempfile.mkdtemp()
        self.sides = (Side(Kernel()), Side(LinuxCalls(self.directory)))
        self.sockets = []
        self.trace = []
        self.names = 0

    def finish(self):
        # No TIME_WAIT is left behind, which would use up the ports of this machine.
        linux = self.sides[1].calls
        for sock in self.sockets:
            if not sock.unix:
                linux.setsockopt(sock.fds[1], SOL, socket.SO_LINGER, ABORT)
        for side in self.sides:
            side.calls.halt()
        shutil.rmtree(self.directory)

    def both(self, what, name, *arguments):
        """Make a call on both sides; an argument that is a function gives that of a side."""
        answers = []
        for index, side in enumerate(self.sides):
            own = [argument(index) if callable(argument) else argument for argument in arguments]
            answers.append(side.answer(name, *own))
        self.compare((what, name, *[a for a in arguments if not callable(a)]), *answers)
        return answers[0]

    def compare(self, what, model, linux):
        self.trace.append((what, model, linux))
        assert model == linux, self.story()

    def story(self):
        return "\n".join(str(line) for line in self.trace)

    def settle(self, what):
        """Both sides must come to the same readiness, with the same number of bytes to read."""
        model = self.look(0)
        linux = self.look(1)
        deadline = time.monotonic() + PATIENCE_S
        while model != linux and time.monotonic() < deadline:
            time.sleep(0.0005)
            linux = self.look(1)
        if model != linux:
            seen = [
                (index, sock.kind, here, there)
                for index, (sock, here, there) in enumerate(
                    zip(self.sockets, model, linux, strict=True)
                )
                if here != there
            ]
            self.trace.append((what, seen))
            raise AssertionError(self.story())

    def look(self, index):
        side = self.sides[index]
        masks = side.calls.poll([(sock.fds[index], 0x7FFF) for sock in self.sockets], 0)
        counts = [side.answer("ioctl", s.fds[index], termios.FIONREAD) for s in self.sockets]
        return [(hex(mask), count) for mask, count in zip(masks, counts, strict=True)]

    # The calls

    def run(self, call, which, other, number):
        if call == "make" or not self.sockets:
            self.make(KINDS[number % len(KINDS)])
        else:
            sock = self.sockets[which % len(self.sockets)]
            second = self.sockets[other % len(self.sockets)]
            getattr(self, f"do_{call}")(sock, second, number)
        self.settle(call)

    def fd(self, sock):
        return lambda index: sock.fds[index]

    def add(self, kind, model, linux):
        self.sockets.append(Socket(kind, model, linux))

    def make(self, kind):
        if len(self.sockets) >= OBJECTS_MAX:
            return
        here, there = (side.calls for side in self.sides)
        self.trace.append((("make", kind, len(self.sockets)), None, None))
        if kind in SOCKETS:
            family, number = SOCKETS[kind]
            self.add(kind, here.socket(family, number | NB), there.socket(family, number | NB))
            if kind.startswith("tcp"):
                self.no_delay(self.sockets[-1])
        elif kind in PAIRS:
            ends = [k.socketpair(UNIX, PAIRS[kind] | NB) for k in (here, there)]
            for model, linux in zip(*ends, strict=True):
                self.add(kind.split()[0], model, linux)
        elif kind == "tcp pair":
            ends = [self.tcp_pair(k) for k in (here, there)]
            for model, linux in zip(*ends, strict=True):
                self.add("tcp", model, linux)
                self.sockets[-1].use()
                self.no_delay(self.sockets[-1])
        else:
            self.add("tcp", *(self.connected_to_itself(k) for k in (here, there)))
            self.sockets[-1].use()
            self.no_delay(self.sockets[-1])

    def no_delay(self, sock):
        for side, fd in zip(self.sides, sock.fds, strict=True):
            side.calls.setsockopt(fd, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @staticmethod
    def tcp_pair(k):
        listener, client = (k.socket(INET, STREAM) for _ in range(2))
        k.bind(listener, ("127.0.0.1", 0))
        k.listen(listener)
        k.connect(client, k.getsockname(listener))
        server, _ = k.accept4(listener, NB)
        k.set_blocking(client, False)
        k.close(listener)
        return client, server

    @staticmethod
    def connected_to_itself(k):
        fd = k.socket(INET, STREAM)
        k.bind(fd, ("127.0.0.1", 0))
        k.connect(fd, k.getsockname(fd))
        k.set_blocking(fd, False)
        return fd

    def address_of(self, sock, asking):
        """The address of a socket, as `asking` may use it, on each side."""

        def find(index):
            side = self.sides[index]
            name = side.calls.getsockname(sock.fds[index])
            if asking.unix:
                if not sock.unix or not name:
                    return "/none"
                return name if isinstance(name, bytes) else f"/{os.path.basename(name)}"
            loopback = "::1" if asking.six else "127.0.0.1"
            # A socket on "::" takes what comes over IPv4 on Linux alone.
            other_family = sock.unix or sock.six != asking.six
            return loopback, 1 if other_family else name[1] or 1

        return find

    def do_bind(self, sock, other, number):
        if sock.unix:
            name = ["/a", "/b", f"\0aiopoll {os.getpid()} c", ""][number % 4]
            if name == "":
                # The names that each gives differ.
                for side, fd in zip(self.sides, sock.fds, strict=True):
                    side.answer("bind", fd, "")
                return
            self.both("bind", "bind", self.fd(sock), name)
            return
        wildcard = "::" if sock.six else "0.0.0.0"
        hosts = ("::1",) if sock.six else ("127.0.0.1", "127.0.0.2")
        host = (*hosts, wildcard)[number % (len(hosts) + 1)]
        shared = other.kind == sock.kind and not other.used and not sock.used
        if number % 2 and shared and self.holds_port(other):
            find = self.address_of(other, sock)

            def address(index):
                port = find(index)[1]
                return host, port if port > 1 else 0

            what = ("bind", host, self.sockets.index(other))
            try:
                self.both(what, "bind", self.fd(sock), address)
            except AssertionError:
                if self.trace[-1][1:] != (None, "EADDRINUSE"):
                    raise
                # Another program's, on another address of this machine.
                self.do_close(sock, other, number)
        else:
            self.both("bind", "bind", self.fd(sock), (host, 0))

    def holds_port(self, sock):
        """Whether it has its port still: getsockname shows one that was given back, too."""
        return self.sides[0].calls.fget(sock.fds[0]).private_data.port != 0

    def do_listen(self, sock, other, number):
        self.both(("listen", self.sockets.index(sock)), "listen", self.fd(sock), 8)

    def do_connect(self, sock, other, number):
        what = ("connect", self.sockets.index(sock), self.sockets.index(other))
        if sock.kind.startswith("tcp"):
            sock.use()
            other.use()
        self.both(what, "connect", self.fd(sock), self.address_of(other, sock))

    def do_itself(self, sock, other, number):
        self.do_connect(sock, sock, number)

    def do_disconnect(self, sock, other, number):
        self.both(("disconnect", self.sockets.index(sock)), "connect", self.fd(sock), None)

    def do_accept(self, sock, other, number):
        if len(self.sockets) >= OBJECTS_MAX:
            return
        answers, fds = [], []
        for side, fd in zip(self.sides, sock.fds, strict=True):
            try:
                new, name = side.calls.accept4(fd, NB)
            except OSError as exc:
                answers.append(errno.errorcode[exc.errno])
            else:
                fds.append(new)
                answers.append(side.plain(name) if name else name)
        self.compare(("accept", self.sockets.index(sock)), *answers)
        if fds:
            self.add(sock.kind, *fds)
            self.sockets[-1].use()
            if sock.kind.startswith("tcp"):
                self.no_delay(self.sockets[-1])

    def size(self, sock, number):
        size = SIZES[number % len(SIZES)]
        # See the divergence empty_packet_unread.
        if sock.kind == "seqpacket":
            return size or 1
        # Room for streams of TCP is Linux's own affair.
        return min(size, LIMIT) if sock.kind.startswith("tcp") else size

    def flags(self, sock, number):
        return OOB if number % 9 == 8 and sock.kind != "stream" else 0

    def do_send(self, sock, other, number):
        data = bytes([65 + number % 26]) * self.size(sock, number)
        what = ("send", self.sockets.index(sock), len(data), self.flags(sock, number))
        data_flags = (data, self.flags(sock, number))
        self.quiet(what, "sendto", self.fd(sock), *data_flags)

    def quiet(self, what, name, *arguments):
        """As `both`, without the payload in the trace."""
        answers = []
        for index, side in enumerate(self.sides):
            own = [argument(index) if callable(argument) else argument for argument in arguments]
            answers.append(side.answer(name, *own))
        self.compare(what, *answers)

    def do_sendto(self, sock, other, number):
        if sock.kind.startswith("tcp") and number % 4:
            self.do_send(sock, other, number)
            return
        data = bytes([97 + number % 26]) * self.size(sock, number)
        flags = self.flags(sock, number)
        where = (self.sockets.index(sock), self.sockets.index(other))
        find = self.address_of(other, sock)
        self.quiet(("sendto", *where, len(data), flags), "sendto", self.fd(sock), data, flags, find)

    def do_receive(self, sock, other, number):
        count = (1, 0, 5, 100, 4000, 100_000)[number % 6]
        flags = (0, 0, PEEK, 0, WAITALL, OOB, OOB | PEEK)[number % 7]
        if flags & OOB and sock.kind == "stream":
            flags = 0
        what = ("receive", self.sockets.index(sock))
        self.both(what, "recvfrom", self.fd(sock), count, flags)

    def do_shutdown(self, sock, other, number):
        where = ("shutdown", self.sockets.index(sock))
        self.both(where, "shutdown", self.fd(sock), number % 4)

    def do_close(self, sock, other, number):
        self.trace.append((("close", self.sockets.index(sock)), None, None))
        self.sockets.remove(sock)
        for side, fd in zip(self.sides, sock.fds, strict=True):
            side.calls.close(fd)

    def do_abort(self, sock, other, number):
        for side, fd in zip(self.sides, sock.fds, strict=True):
            side.calls.setsockopt(fd, SOL, socket.SO_LINGER, ABORT)
        self.do_close(sock, other, number)

    def do_names(self, sock, other, number):
        for name in ("getsockname", "getpeername"):
            self.both((name, self.sockets.index(sock)), name, self.fd(sock))

    def do_error(self, sock, other, number):
        where = ("error", self.sockets.index(sock))
        self.both(where, "getsockopt", self.fd(sock), SOL, socket.SO_ERROR)

    def do_state(self, sock, other, number):
        for option in (socket.SO_ACCEPTCONN, socket.SO_TYPE, socket.SO_DOMAIN):
            where = ("option", self.sockets.index(sock))
            self.both(where, "getsockopt", self.fd(sock), SOL, option)

    def do_reuse(self, sock, other, number):
        option = (socket.SO_REUSEADDR, socket.SO_REUSEPORT)[number % 2]
        if not sock.unix:
            where = ("reuse", self.sockets.index(sock))
            self.both(where, "setsockopt", self.fd(sock), SOL, option, number % 3 and 1)

    def do_buffer(self, sock, other, number):
        if sock.unix:
            where = ("buffer", self.sockets.index(sock))
            self.both(where, "setsockopt", self.fd(sock), SOL, socket.SO_SNDBUF, number)

    def do_rights(self, sock, other, number):
        """Send a descriptor of another socket along; closing that does not end it then.

        It is no Unix socket: those that are in each other's queues alone are collected on Linux.
        """
        if other.unix:
            return
        answers = []
        for side, fd, passed in zip(self.sides, sock.fds, other.fds, strict=True):
            control = [(SOL, socket.SCM_RIGHTS, struct.pack("i", passed))]
            answers.append(side.answer("sendmsg", fd, [b"with"], control))
        self.compare(("rights", self.sockets.index(sock), self.sockets.index(other)), *answers)

    def do_message(self, sock, other, number):
        """Receive a message; what came along is closed at once."""
        answers = []
        room = (0, 20)[number % 2]
        for side, fd in zip(self.sides, sock.fds, strict=True):
            try:
                data, control, flags, address = side.calls.recvmsg(fd, number % 9, room)
            except OSError as exc:
                answers.append(errno.errorcode[exc.errno])
                continue
            for _, _, rights in control:
                side.calls.close(*struct.unpack("i", rights))
            answers.append((data, len(control), flags, address and side.plain(address)))
        self.compare(("message", self.sockets.index(sock), number), *answers)

    def do_dup2(self, sock, other, number):
        """Put `sock` in the place of `other`."""
        if sock is other:
            return
        where = ("dup2", self.sockets.index(sock), self.sockets.index(other))
        self.trace.append((where, None, None))
        for side, fd, new in zip(self.sides, sock.fds, other.fds, strict=True):
            side.calls.dup2(fd, new)
        other.kind, other.marks = sock.kind, sock.marks
