"""Executes a command under a seccomp filter: confine.py FILTER COMMAND [ARGS…].

FILTER is `docker`, Docker's default profile, or a list such as `io_setup=EPERM,io_cancel=ENOSYS`
of system calls that answer an errno while all others are allowed.
"""

import errno
import os
import sys

import bpf
import docker_profile


def program_of(name: str) -> bytes:
    """The filter that FILTER stands for."""
    if name == "docker":
        return bpf.assemble(*docker_profile.rules_of(docker_profile.load()))
    numbers = bpf.syscall_numbers()
    rules = []
    for item in name.split(","):
        syscall, _, answer = item.partition("=")
        rules.append(bpf.Rule(numbers[syscall], bpf.refuse(getattr(errno, answer))))
    return bpf.assemble(rules, bpf.ALLOW)


if __name__ == "__main__":
    bpf.apply(program_of(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
