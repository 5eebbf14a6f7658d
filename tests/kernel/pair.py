"""Both kernels side by side, and random operations on them."""

import time

from aiopoll.kernel.uapi import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLPRI, EPOLLRDNORM

from .drivers import (
    CLOSED,
    CONTEXTS,
    KINDS,
    PATIENCE_MS,
    REFUSED,
    LinuxDriver,
    ModelDriver,
)

SOCKETS = ("unix", "dgram", "packets", "tcp", "itself", "udp")
EVENTS = (0x1, 0x4, 0x5, 0x2001, 0x2000, 0x0, 0x41, 0x104, 0x2, 0x3)
# Which ends an operation is for, where not for all of them: so that each step does something.
TAKEN_BY = {
    "urgent": ("tcp", "itself"),
    "read urgent": ("tcp", "itself"),
    "notify": ("eventfd",),
    "shutdown": SOCKETS,
    "fire": ("timerfd",),
    "poll": tuple(kind for kind in KINDS if kind != "file"),
}
# The weight of each: io_destroy takes Linux some thirty milliseconds.
OPERATIONS = (
    *["poll"] * 6,
    *["write"] * 6,
    *["read"] * 4,
    *["reap"] * 4,
    *["make", "cancel", "close"] * 2,
    *("shutdown", "fire", "look", "fsync", "signal"),
    *("urgent", "read urgent", "cancel elsewhere", "destroy", "notify", "notify", "refused"),
)


class Pair:
    """Each operation is done on both kernels, and the results are compared.

    `objects` are the open ends: (kind, index of the end, model fd, linux fd, number of its pair).
    `requests` are those in flight by key: (model iocb, linux iocb, index of the context).
    """

    def __init__(self, contexts):
        self.model = ModelDriver()
        self.linux = LinuxDriver(contexts)
        self.trace = []
        self.objects = []
        self.requests = {}
        self.asked = {}
        self.owner = {}
        self.made = 0
        self.retired = []
        self.socket = False
        # The keys of requests that signal an eventfd.
        self.notifying = set()

    def _both(self, what, model, linux):
        self.trace.append((what, model, linux))
        assert model == linux, "\n".join(map(str, self.trace))
        return model

    def _call(self, what, name, model_arguments, linux_arguments, hint=False):
        model = getattr(self.model, name)(*model_arguments)
        extra = {"expected": model} if hint else {}
        linux = getattr(self.linux, name)(*linux_arguments, **extra)
        return self._both(what, model, linux)

    def make(self, kind):
        fds = zip(self.model.make(kind), self.linux.make(kind), strict=True)
        for end, (model_fd, linux_fd) in enumerate(fds):
            self.objects.append((kind, end, model_fd, linux_fd, self.made))
        self.made += 1

    def run(self, operation, which, number):
        """One operation on the `which`-th open end; `number` is its argument."""
        before = len(self.trace)
        self._run(operation, which, number)
        # A FIN or a reset wakes without a key: today's kernel looks some time later. It must have
        # looked before the next operation changes the state. Socket data wakes with a key that is
        # too broad, and a poll that it completed falsely is armed again now.
        done = [what[0] for what, _, _ in self.trace[before:]]
        changes = operation == "notify" or {"write", "read"} & set(done)
        notified = changes and self.notifying & self.requests.keys()
        if notified or ({"close", "shutdown", "write", "urgent"} & set(done) and self.socket):
            self.reap()
        self.socket = False

    def _run(self, operation, which, number):
        if operation == "make":
            if len(self.objects) < 24:
                self.make(KINDS[number % len(KINDS)])
            return
        if operation == "reap":
            self.reap()
            return
        if operation == "signal":
            self.reap()
            self._call(("signal",), "interrupted_wait", (), ())
            return
        if operation == "cancel":
            self.cancel(number)
            return
        if operation == "cancel elsewhere":
            self.cancel(number, elsewhere=1 + number % (CONTEXTS - 1))
            return
        if operation == "destroy":
            self.destroy(number % CONTEXTS)
            return
        kinds = TAKEN_BY.get(operation, KINDS)
        if not any(entry[0] in kinds for entry in self.objects):
            self.make(kinds[number % len(kinds)])
        fitting = [entry for entry in self.objects if entry[0] in kinds]
        entry = fitting[which % len(fitting)]
        kind, end, model_fd, linux_fd, _ = entry
        what = (operation, kind, end, number)
        self.socket = kind in SOCKETS or operation in ("close", "shutdown")
        if operation == "close":
            self.objects.remove(entry)
            if entry in [self.owner[key] for key in self.requests]:
                self.retire(entry)
            self._call(what, "close", (model_fd,), (linux_fd,))
        elif operation == "read":
            count = 8 if kind in ("eventfd", "timerfd") else 1 + number % 5000
            self._call(what, "read", (model_fd, count), (linux_fd, count), True)
        elif operation == "write":
            size = 1 + number % 3000
            data = (1 + number % 7).to_bytes(8, "little") if kind == "eventfd" else bytes(size)
            self._call(what, "write", (model_fd, data), (linux_fd, data), True)
        elif operation == "urgent":
            data = bytes(1 + number % 3)
            self._call(what, "write_urgent", (model_fd, data), (linux_fd, data))
        elif operation == "read urgent":
            self._call(what, "read_urgent", (model_fd,), (linux_fd,), True)
        elif operation == "shutdown":
            how = number % 3
            self._call(what, "shutdown", (model_fd, how), (linux_fd, how))
        elif operation == "fire":
            self._call(what, "fire_timer", (model_fd,), (linux_fd,))
        elif operation == "look":
            events = EVENTS[number % len(EVENTS)]
            self._call(what, "poll", (model_fd, events), (linux_fd, events), True)
        elif operation == "poll":
            self.submit("poll", entry, EVENTS[number % len(EVENTS)], which % CONTEXTS)
        elif operation == "fsync":
            self.submit("fsync", entry, 0, number % CONTEXTS)
        elif operation == "notify":
            # Completions signal an eventfd, perhaps the one that is polled.
            others = [other for other in self.objects if other[0] == "eventfd"]
            events = EVENTS[number % len(EVENTS)]
            self.submit("poll", entry, events, which % CONTEXTS, others[number % len(others)])
        elif operation == "refused":
            opcode, buf, offset = REFUSED[number % len(REFUSED)]
            resfds = [(CLOSED, CLOSED), (model_fd, linux_fd)][which % 2]
            arguments = [
                (opcode, fd, buf, offset, resfd)
                for fd, resfd in zip((model_fd, linux_fd), resfds, strict=True)
            ]
            self._call(what, "submit_refused", *arguments)

    def retire(self, closed):
        """Leave the other end of a pinned file alone.

        The request's event comes first, and a work item releases the file some time later: the
        other end's view meanwhile is random. Pinning has tests of its own.
        """
        others = [entry for entry in self.objects if entry[4] == closed[4]]
        self.retired += others
        self.objects = [entry for entry in self.objects if entry not in others]

    def submit(self, operation, entry, events, context, notified=None):
        kind, end, model_fd, linux_fd, _ = entry
        key = len(self.asked) + 1
        # Both sides must agree on what is ready before either is asked to decide.
        if operation == "poll":
            self._call(("look", kind, end), "poll", (model_fd, events), (linux_fd, events), True)
        self.asked[key] = events | EPOLLERR | EPOLLHUP
        here, there = (None, None) if notified is None else notified[2:4]
        model_iocb, model = self.model.submit(operation, model_fd, events, key, context, here)
        linux_iocb, linux = self.linux.submit(operation, linux_fd, events, key, context, there)
        if self._both((operation, kind, end, events, key, context), model, linux) == 1:
            self.requests[key] = (model_iocb, linux_iocb, context)
            self.owner[key] = entry
            if notified is not None:
                self.notifying.add(key)
        if events & EPOLLPRI:
            # Context asks poll(2) whether PRI is true, which must not have changed meanwhile.
            self.reap()

    def cancel(self, number, elsewhere=0):
        # No pending event may depend on the network: take them all first.
        self.reap()
        # Those of closed files stay until the end, see `retire`.
        keys = [key for key in sorted(self.requests) if self.owner[key] in self.objects]
        if keys:
            key = keys[number % len(keys)]
            model_iocb, linux_iocb, context = self.requests[key]
            where = (context + elsewhere) % CONTEXTS
            self._call(("cancel", key, where), "cancel", (model_iocb, where), (linux_iocb, where))
            self.reap()

    def destroy(self, context):
        """Requests in flight go without an event."""
        self.reap()
        self._call(("destroy", context), "destroy", (context,), (context,))
        for key in [key for key, request in self.requests.items() if request[2] == context]:
            del self.requests[key]

    def reap(self):
        for context in range(CONTEXTS):
            # The network and the kworkers decide the order of events of different files.
            model = sorted(self.model.reap(self.asked, context=context))
            linux = self.reap_linux(model, context)
            if len(linux) == len(model):
                linux = [tolerated(*pair) for pair in zip(model, linux, strict=True)]
            self._both(("reap", context), model, linux)
            if self.notifying & {key for key, _ in model}:
                # The event comes first. A work item signals the eventfd next, if that is polled.
                time.sleep(0.005)
            for key, _ in model:
                del self.requests[key]

    def reap_linux(self, model, context):
        """The events that Linux has for those of the model, of which the network may be slow."""
        keys = {key for key, _ in model}
        events = []
        while found := self.linux.reap(self.asked, model[len(events) :], context):
            for key, res in found:
                if key in keys or not self.completed_falsely(key):
                    events.append((key, res))
            if len(events) >= len(model):
                break
        return sorted(events)

    def completed_falsely(self, key):
        """The divergence raw_wake_key: a socket's key has bits that are not true.

        The poll completed, though no requested event is ready. It is armed again.
        """
        entry = self.owner[key]
        model_iocb, _, context = self.requests[key]
        kind, _, _, linux_fd, _ = entry
        asked = self.asked[key]
        if kind not in SOCKETS or entry not in self.objects or self.linux.poll(linux_fd, asked):
            return False
        events = asked & ~(EPOLLERR | EPOLLHUP)
        linux_iocb, result = self.linux.submit("poll", linux_fd, events, key, context)
        assert result == 1
        self.requests[key] = (model_iocb, linux_iocb, context)
        return True

    def finish(self):
        """Cancel the rest: on either side each request gives one event. Close everything."""
        self.reap()
        for key in sorted(self.requests):
            # Chance decides which of them are ready by now, see `retire`.
            model_iocb, linux_iocb, context = self.requests[key]
            self.model.cancel(model_iocb, context)
            self.linux.cancel(linux_iocb, context)
        for context in range(CONTEXTS):
            left = sorted(key for key, request in self.requests.items() if request[2] == context)
            model = self.model.reap(self.asked, context=context)
            linux = self.linux.reap(self.asked, left, context)
            assert sorted(key for key, _ in model) == left
            assert sorted(key for key, _ in linux) == left
            assert self.linux.reap(self.asked, context=context) == []
        self.requests.clear()
        for _, _, model_fd, linux_fd, _ in self.objects + self.retired:
            self._call(("close",), "close", (model_fd,), (linux_fd,))
        self.model.finish()

    def abandon(self):
        """After a difference: leave nothing behind on the real side."""
        for _, linux_iocb, context in self.requests.values():
            self.linux.cancel(linux_iocb, context)
        for context in self.linux.contexts:
            while context.getevents(1, 256, PATIENCE_MS * 100_000):
                pass
        for _, _, _, linux_fd, _ in self.objects + self.retired:
            self.linux.close(linux_fd)


def tolerated(model, linux):
    """The result of Linux, without the bits that the divergences later_look and raw_wake_key add.

    A kworker that looks later sees errors and hang-ups that came meanwhile.  A socket's key reports
    data to read, though it may be the urgent byte alone.
    """
    if min(linux[1], model[1]) <= 0 or linux[1] & model[1] != model[1]:
        return linux
    extra = linux[1] & ~model[1]
    if extra & ~(EPOLLERR | EPOLLHUP | EPOLLIN | EPOLLRDNORM):
        return linux
    return model if not extra & (EPOLLIN | EPOLLRDNORM) or model[1] & EPOLLPRI else linux
