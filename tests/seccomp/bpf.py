"""A small assembler for seccomp filters, and the system call that applies them.

Facts.  A filter is a classic BPF program over struct seccomp_data: nr at 0, arch at 4, and six
64-bit args from 16 on, of which BPF loads 32 bits at a time.  Conditional jumps reach 255
instructions.  A filter stays in force over fork and exec (seccomp(2)).

Rule.  Rules are tried in order, and the first that matches decides.  A rule is a block
whose conditions fall through while they hold and jump behind the block when one does not.
"""

import ctypes
import json
import platform
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

# linux/bpf_common.h
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_JUMP = {"EQ": 0x15, "GT": 0x25, "GE": 0x35}  # BPF_JMP | BPF_K | …

# The destination of a jump: the next instruction, or out of the block with this outcome.
_NEXT, _PASS, _FAIL = "next", "pass", "fail"


def refuse(errno: int) -> int:
    """The action that returns -`errno`."""
    return 0x00050000 | errno


@dataclass(frozen=True)
class Condition:
    """One argument compared, all 64 bits, unsigned.

    op: EQ, NE, LT, LE, GT, GE, or MASKED_EQ: (argument & value) == value_two.
    """

    index: int
    op: str
    value: int
    value_two: int = 0


@dataclass(frozen=True)
class Rule:
    """The action on system call `nr` where all conditions hold."""

    nr: int
    action: int
    conditions: Sequence[Condition] = ()


def syscall_numbers() -> dict[str, int]:
    """This machine's system calls by name.  KeyError for an architecture that is not known."""
    table = Path(__file__).parent / "data" / "syscalls.json"
    numbers: dict[str, int] = json.loads(table.read_text(encoding="ascii"))[platform.machine()]
    return numbers


def assemble(rules: Sequence[Rule], default: int) -> bytes:
    """The filter as an array of struct sock_filter."""
    code = [
        _instruction(_LOAD, 4),
        _instruction(_JUMP["EQ"], _AUDIT_ARCH[platform.machine()], 1, 0),
        _instruction(_RETURN, KILL_PROCESS),
        _instruction(_LOAD, 0),
    ]
    for rule in rules:
        code += _rule_code(rule)
    code.append(_instruction(_RETURN, default))
    return b"".join(code)


def apply(program: bytes) -> None:
    """Puts the filter in force for this thread, its children and the programs it executes."""
    assert sys.byteorder == "little", "the halves of an argument are swapped"
    libc = ctypes.CDLL(None, use_errno=True)
    instructions = ctypes.create_string_buffer(program, len(program))
    length = len(program) // 8
    # struct sock_fprog: a count, padding, a pointer.
    fprog = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", length, ctypes.addressof(instructions))
    )
    zero = ctypes.c_ulong(0)
    for option, first, second in (
        (_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero),
        (_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), fprog),
    ):
        if libc.prctl(option, first, second, zero, zero) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option})")


def _instruction(code: int, k: int, jt: int = 0, jf: int = 0) -> bytes:
    return struct.pack("<HBBI", code, jt, jf, k)


def _rule_code(rule: Rule) -> list[bytes]:
    body: list[bytes] = []
    for condition in rule.conditions:
        body += _condition_code(condition)
    body = _with_exit(body, rule.action)
    return [_instruction(_JUMP["EQ"], rule.nr, 0, len(body)), *body]


def _with_exit(conditions: list[bytes], action: int) -> list[bytes]:
    """Conditions that jump over `action` where they fail; then nr is loaded for the next rule."""
    if not conditions:
        return [_instruction(_RETURN, action)]
    end = len(conditions)
    code = [_resolve_failure(step, end - position) for position, step in enumerate(conditions)]
    return [*code, _instruction(_RETURN, action), _instruction(_LOAD, 0)]


_FAIL_MARK = 255


def _resolve_failure(instruction: bytes, distance: int) -> bytes:
    """Replaces the mark of a failing jump by its distance: over the rest and the action."""
    code, jt, jf, k = struct.unpack("<HBBI", instruction)
    if code in _JUMP.values():
        jt = distance if jt == _FAIL_MARK else jt
        jf = distance if jf == _FAIL_MARK else jf
    return _instruction(code, k, jt, jf)


def _condition_code(condition: Condition) -> list[bytes]:
    """The high half of the argument, then the low half; passing falls behind the last one."""
    high, low = condition.value >> 32, condition.value & 0xFFFFFFFF
    steps: list[tuple[int, int, str, str]]
    load_low = (_LOAD, 16 + 8 * condition.index, _NEXT, _NEXT)
    load_high = (_LOAD, 20 + 8 * condition.index, _NEXT, _NEXT)
    equal = _JUMP["EQ"]
    match condition.op:
        case "EQ":
            steps = [load_high, (equal, high, _NEXT, _FAIL), load_low, (equal, low, _PASS, _FAIL)]
        case "NE":
            steps = [load_high, (equal, high, _NEXT, _PASS), load_low, (equal, low, _FAIL, _PASS)]
        case "GT" | "GE" | "LE" | "LT":
            # LE and LT are GT and GE with the outcomes exchanged.
            yes, no = (_PASS, _FAIL) if condition.op in ("GT", "GE") else (_FAIL, _PASS)
            last = _JUMP["GT"] if condition.op in ("GT", "LE") else _JUMP["GE"]
            steps = [
                load_high,
                (_JUMP["GT"], high, yes, _NEXT),
                (equal, high, _NEXT, no),
                load_low,
                (last, low, yes, no),
            ]
        case "MASKED_EQ":
            two = condition.value_two
            steps = [
                load_high,
                (_AND, high, _NEXT, _NEXT),
                (equal, two >> 32, _NEXT, _FAIL),
                load_low,
                (_AND, low, _NEXT, _NEXT),
                (equal, two & 0xFFFFFFFF, _PASS, _FAIL),
            ]
        case _:
            raise ValueError(f"no such comparison: {condition.op}")
    code = []
    for position, (operation, k, jt, jf) in enumerate(steps):
        distances = {_NEXT: 0, _PASS: len(steps) - position - 1, _FAIL: _FAIL_MARK}
        code.append(_instruction(operation, k, distances[jt], distances[jf]))
    return code
