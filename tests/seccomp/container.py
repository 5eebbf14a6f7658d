"""Executes a command in a container: container.py ENGINE RUNTIME COMMAND [ARGS…].

ENGINE is `docker` or `podman`, whose default seccomp profile and capabilities hold in it; RUNTIME
is `runc`, `crun` or `runsc`, which is gVisor and ignores the profile.

Facts.  An OCI bundle is a directory with config.json and the root directory of the container.
crun 1.8 refuses a machine with both versions of cgroups, even where it may use neither; runc
refuses one with none.  A user other than root may make these namespaces in one of users.

Rule.  The folders of this machine are in the container, read-only, except for the current one.  No
network but loopback, no cgroup of its own.  The bundle stays, in the current directory.
Around it is a namespace of processes, which all end with this one, and one of mounts, so that
nothing is left behind.
"""

import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import profiles

AROUND = ["unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]
if os.geteuid() != 0:
    AROUND += ["--user", "--map-root-user"]

# Both without errors about cgroups.
COMMANDS = {
    "runc": 'exec runc --rootless=true --root "$1" run --bundle "$2" "$3"',
    "crun": "mount -t tmpfs none /sys/fs/cgroup &&"
    ' exec crun --cgroup-manager=disabled --root "$1" run --bundle "$2" "$3"',
    "runsc": "exec runsc --rootless --ignore-cgroups --network=none"
    ' --root "$1" run --bundle "$2" "$3"',
}

_NAMESPACES = ("mount", "pid", "network", "ipc", "uts")
_KERNELS_OWN = {
    "/proc": ("proc", ["nosuid", "noexec", "nodev"]),
    "/dev": ("tmpfs", ["nosuid", "mode=755"]),
    "/dev/pts": ("devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
    "/dev/shm": ("tmpfs", ["nosuid", "noexec", "nodev", "mode=1777"]),
}


def fill_bundle(bundle: Path, engine: str, command: list[str], environment: dict[str, str]) -> None:
    """Fills the bundle of a container that runs the command in the current directory."""
    root = bundle / "rootfs"
    root.mkdir()
    mounts: list[dict[str, Any]] = [
        {"destination": where, "type": kind, "source": kind, "options": options}
        for where, (kind, options) in _KERNELS_OWN.items()
    ]
    for folder in sorted(Path("/").iterdir()):
        if folder.is_symlink():
            (root / folder.name).symlink_to(folder.readlink())
        elif folder.is_dir() and folder.name not in ("proc", "dev", "sys"):
            mounts.append(_bind(str(folder), "rbind", "ro"))
    mounts.append(_bind(os.getcwd(), "bind", "rw"))
    default = profiles.DEFAULTS[engine]
    capabilities = sorted(default.capabilities)
    config = {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": True},
        "mounts": mounts,
        "process": {
            "user": {"uid": 0, "gid": 0},
            "cwd": os.getcwd(),
            "args": command,
            "env": [f"{name}={value}" for name, value in environment.items()],
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        },
        "linux": {
            "namespaces": [{"type": kind} for kind in _NAMESPACES],
            "seccomp": _seccomp(default),
        },
    }
    (bundle / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _bind(folder: str, *options: str) -> dict[str, Any]:
    return {"destination": folder, "type": "bind", "source": folder, "options": options}


def _seccomp(default: profiles.Default) -> dict[str, Any]:
    """The profile as OCI has it: without circumstances."""
    profile = default.load()
    groups = [
        {key: group[key] for key in ("names", "action", "errnoRet", "args") if group.get(key)}
        for group in profiles.groups_that_apply(profile, default.capabilities)
    ]
    seccomp = {key: profile[key] for key in ("defaultAction", "defaultErrnoRet") if key in profile}
    architecture = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
    return {
        **seccomp,
        "architectures": [architecture[platform.machine()]],
        "syscalls": groups,
    }


if __name__ == "__main__":
    engine, runtime, *command = sys.argv[1:]
    bundle = Path(tempfile.mkdtemp(prefix="bundle-", dir=os.getcwd()))
    fill_bundle(bundle, engine, command, {**os.environ, "TMPDIR": os.getcwd()})
    arguments = [str(bundle / "state"), str(bundle), f"aiopoll-{os.getpid()}"]
    around = [*AROUND, "sh", "-c", COMMANDS[runtime], "sh", *arguments]
    # No sanitizer is preloaded into the runtime.
    os.execvpe(around[0], around, {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"})
