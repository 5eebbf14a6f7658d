"""Executes a command under a seccomp filter: confine.py FILTER COMMAND [ARGS…].

FILTER is `docker` or `podman`, the default profile of either, or `systemd`, whose
`SystemCallFilter=@system-service` kills what calls anything else, or a list such as
`io_setup=EPERM,io_cancel=ENOSYS` of system calls that fail with an errno while all others are
allowed.  `epoll_ctl:2:GE:100=ENOSPC` refuses the call only if its third argument is 100 or more.
"""

import errno
import os
import sys

import bpf
import profiles


def program_of(name: str) -> bytes:
    """The filter named by FILTER."""
    if name in profiles.DEFAULTS:
        return bpf.assemble(*profiles.rules_of(profiles.DEFAULTS[name]))
    numbers = bpf.syscall_numbers()
    rules = []
    for item in name.split(","):
        call, _, answer = item.partition("=")
        syscall, *condition = call.split(":")
        conditions = []
        if condition:
            index, op, value = condition
            conditions.append(bpf.Condition(int(index), op, int(value)))
        action = bpf.refuse(getattr(errno, answer))
        rules.append(bpf.Rule(numbers[syscall], action, conditions))
    return bpf.assemble(rules, bpf.ALLOW)


if __name__ == "__main__":
    bpf.apply(program_of(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
