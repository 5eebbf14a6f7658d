"""Turns a seccomp profile in Docker's format, which is Podman's too, into rules of a filter.

A profile is a list of groups: names of system calls, an action, and conditions on the arguments
that must all hold.  A group applies only in some circumstances (`includes`: every one of them,
`excludes`: none of them).  Among groups for the same call, any that matches allows it.
"""

import json
import os
import platform
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bpf import ALLOW, KILL_PROCESS, Condition, Rule, refuse, syscall_numbers

_DATA = Path(__file__).parent / "data"

# Podman's defaults for a container (containers/common, pkg/config/default.go).
_PODMAN_CAPABILITIES = frozenset(
    {
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_NET_BIND_SERVICE",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    }
)

# Docker's (moby, oci/caps/defaults.go).
_DOCKER_CAPABILITIES = _PODMAN_CAPABILITIES | {"CAP_AUDIT_WRITE", "CAP_MKNOD", "CAP_NET_RAW"}


@dataclass(frozen=True)
class Default:
    """The defaults of a container engine, or what units of systemd name most often."""

    file: Path
    capabilities: frozenset[str]

    def load(self) -> dict[str, Any]:
        """The profile as it stands in the file."""
        profile: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        return profile


DEFAULTS = {
    "docker": Default(_DATA / "docker-default.json", _DOCKER_CAPABILITIES),
    "podman": Default(_DATA / "podman-default.json", _PODMAN_CAPABILITIES),
    "systemd": Default(_DATA / "systemd-service.json", frozenset()),
}

_ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}  # Go's names, which profiles use


def rules_of(default: Default) -> tuple[list[Rule], int]:
    """The rules and the default action of a filter.

    System calls that this architecture lacks are left out.  Raises ValueError for an action that
    is not one of SCMP_ACT_ALLOW, SCMP_ACT_ERRNO and SCMP_ACT_KILL_PROCESS.
    """
    numbers = syscall_numbers()
    profile = default.load()
    rules = []
    for group in groups_that_apply(profile, default.capabilities):
        action = _action(group["action"], group.get("errnoRet"))
        conditions = tuple(_condition(argument) for argument in group.get("args") or ())
        rules += [
            Rule(numbers[name], action, conditions) for name in group["names"] if name in numbers
        ]
    # Allowed wins over refused: of two groups for one call, one may have other conditions.
    rules.sort(key=lambda rule: rule.action != ALLOW)
    return rules, _action(profile["defaultAction"], profile.get("defaultErrnoRet"))


def groups_that_apply(
    profile: dict[str, Any], capabilities: Collection[str]
) -> list[dict[str, Any]]:
    """The groups for this machine and a container with `capabilities`."""
    return [group for group in profile["syscalls"] if _applies(group, capabilities)]


def _applies(group: dict[str, Any], capabilities: Collection[str]) -> bool:
    includes, excludes = group.get("includes") or {}, group.get("excludes") or {}
    unknown = {*includes, *excludes} - {"caps", "arches", "minKernel"}
    if unknown:
        raise ValueError(f"unknown circumstances in the profile: {unknown}")
    arch = _ARCHES[platform.machine()]
    if "arches" in includes and arch not in includes["arches"]:
        return False
    if not all(name in capabilities for name in includes.get("caps", ())):
        return False
    if "minKernel" in includes and _version(os.uname().release) < _version(includes["minKernel"]):
        return False
    if arch in excludes.get("arches", ()):
        return False
    if any(name in capabilities for name in excludes.get("caps", ())):
        return False
    return not (
        "minKernel" in excludes and _version(os.uname().release) >= _version(excludes["minKernel"])
    )


def _version(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", release)[:2])


def _action(name: str, errno: int | None) -> int:
    if name == "SCMP_ACT_ALLOW":
        return ALLOW
    if name == "SCMP_ACT_KILL_PROCESS":
        return KILL_PROCESS
    if name == "SCMP_ACT_ERRNO":
        return refuse(1 if errno is None else errno)  # runc: EPERM unless said otherwise
    raise ValueError(f"unknown action in the profile: {name}")


def _condition(argument: dict[str, Any]) -> Condition:
    op = argument["op"].removeprefix("SCMP_CMP_")
    return Condition(argument["index"], op, argument["value"], argument.get("valueTwo", 0))
