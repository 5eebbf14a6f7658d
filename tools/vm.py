"""Runs pytest in a virtual machine with a kernel of Debian's: `make test-vm`.

Facts. A process may hold as many files as its hard RLIMIT_NOFILE says, which takes
CAP_SYS_RESOURCE to raise; a container's root is seldom given it, or may mount.  Debian's kernel has
ext4, 9p, overlayfs and virtio as modules; its cloud kernel has no 9p.  /dev/kvm alone is no proof
of KVM: where the processor shows neither vmx nor svm (a virtual machine that nests by other means),
Debian's kernel does not get to its first line under it.
Rule. The machine sees this one's files over 9p, read-only, under a tmpfs that takes what is
written; temporary files are on an empty ext4 disk.  One of another kind sees a Debian for it in the
same way, with a wheel that was built here, and this checkout's tests.  It has no network but
loopback, its root may do everything, and pytest is given 70,000 open files.  Its serial port is our
output, a second disk takes the exit status.  Without KVM it is emulated.
Why. What a sandbox skips runs somewhere, and the rest on other kernels than the one underneath,
with the very files of this checkout: nothing is built or installed in there.
Cost. Emulated, a test takes about ten times as long.  What never ends is ended at --timeout.
"""

import argparse
import lzma
import os
import re
import shlex
import stat
import struct
import subprocess
import sys
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from tools.commands import need
from tools.vm_packages import BUILD, ROOT, Release, install_wheels, user_space

MODULES = ("virtio_pci", "virtio_blk", "9pnet_virtio", "9p", "overlay", "crc32c_generic", "ext4")
MEMORY_MIB = 4096
DISK_BYTES = 4 << 30  # sparse
STATUS_BYTES = 64 << 10  # a partition table is looked for in it
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Which release has a kernel of that version; the names of releases are taken too.
KERNELS = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie", "newest": "sid"}


@dataclass(frozen=True)
class Machine:
    """A kind of machine, in everyone's words."""

    debian: str
    wheel: str
    qemu: str
    package: str
    options: tuple[str, ...]
    boot: str  # what the kernel is told

    @property
    def is_ours(self) -> bool:
        return os.uname().machine == self.wheel


MACHINES = {
    "x86_64": Machine(
        *("amd64", "x86_64", "qemu-system-x86_64", "qemu-system-x86"),
        ("-cpu", "max"),
        "console=ttyS0 no_timer_check",  # a slow timer is taken for a broken one
    ),
    "arm64": Machine(
        *("arm64", "aarch64", "qemu-system-aarch64", "qemu-system-arm"),
        ("-machine", "virt,gic-version=3", "-cpu", "neoverse-n1"),
        "console=ttyAMA0",
    ),
}

# The initramfs: mounts it all below /new, then makes that the root directory.
INIT = """#!/bin/busybox sh
set -e
/bin/busybox --install -s /bin
trap 'poweroff -f' EXIT
share() {{
    mkdir -p "/host/$1" "/rw/$1/upper" "/rw/$1/work" "/new$2"
    mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose "$1" "/host/$1"
    mount -t overlay -o "lowerdir=/host/$1,upperdir=/rw/$1/upper,workdir=/rw/$1/work" \\
        overlay "/new$2"
}}
for module in {modules}; do insmod /modules/$module.ko; done
mkdir /rw
mount -t tmpfs tmpfs /rw
{shares}
mount -t proc proc /new/proc
mount -t sysfs sysfs /new/sys
mount -t devtmpfs devtmpfs /new/dev
mkdir -p /new/dev/pts /new/dev/shm /new/scratch
mount -t devpts devpts /new/dev/pts
mount -t tmpfs tmpfs /new/dev/shm
mount -t ext4 /new/dev/vda /new/scratch
chmod 1777 /new/dev/shm /new/scratch /new/tmp
ln -s /proc/self/fd /new/dev/fd
ln -s fd/0 /new/dev/stdin
ln -s fd/1 /new/dev/stdout
ln -s fd/2 /new/dev/stderr
ifconfig lo up
cp /bin/busybox /tests /new/scratch
exec switch_root /new /scratch/busybox sh /scratch/tests
"""

# Process 1 from there on.  Where it fails the kernel panics, which ends the machine too.
TESTS = """
ulimit -n 70000
cd {directory}
/scratch/busybox uname -srvm
{{ {command}; echo $? >/dev/vdb; }} 2>&1 </dev/null | /scratch/busybox cat
/scratch/busybox poweroff -f
"""


def find_images(directory: Path) -> list[Path]:
    """The kernel itself: since Debian has Linux 7 it is with its modules."""
    return [*directory.glob("boot/vmlinuz-*"), *directory.glob("usr/lib/modules/*/vmlinuz")]


def in_order(modules: Path) -> dict[str, bytes]:
    """The modules of MODULES, each behind those it depends on, by their own word for it."""
    paths = {path.name.partition(".")[0].replace("-", "_"): path for path in modules.rglob("*.ko*")}
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in found or name not in paths:  # what is no module is in the kernel
            return
        content = paths[name].read_bytes()
        if paths[name].suffix == ".xz":
            content = lzma.decompress(content)
        depends = re.search(rb"\0depends=([^\0]*)\0", content)
        for other in depends[1].decode().split(",") if depends else ():
            add(other.replace("-", "_"))
        found[name] = content

    for name in MODULES:
        add(name)
    return found


def bootable(image: bytes) -> bytes:
    """A kernel that any qemu starts: before 8.0 it cannot unpack an "EFI zboot" image (arm64)."""
    if image[4:8] != b"zimg":
        return image
    offset, size = struct.unpack_from("<II", image, 8)
    compression = image[24:56].partition(b"\0")[0]
    packed = image[offset : offset + size]
    if compression == b"gzip":
        return zlib.decompress(packed, wbits=31)
    zstd = [need("zstd", "zstd"), "-d", "-c", "-q"]
    return subprocess.run(zstd, input=packed, stdout=subprocess.PIPE, check=True).stdout


def archive(files: dict[str, bytes]) -> bytes:
    """An initramfs of executable files: cpio's "newc" format."""
    parts = []
    names = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    entries = [(name, stat.S_IFDIR | 0o755, b"") for name in sorted(names)]
    entries += [(name, stat.S_IFREG | 0o755, content) for name, content in files.items()]
    for inode, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")]):
        path = name.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        for part in (b"070701" + b"".join(b"%08X" % field for field in fields) + path, content):
            parts.append(part + bytes(-len(part) % 4))
    return b"".join(parts)


def acceleration(machine: Machine) -> str:
    """KVM where it is the processor's own."""
    processor = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    usable = re.search(r"^flags.*\b(vmx|svm)\b", processor, re.MULTILINE)
    works = usable and machine.is_ours and os.access("/dev/kvm", os.R_OK | os.W_OK)
    return "kvm" if works else "tcg"


def run(
    kernel: str, machine: Machine, wheels: list[Path], arguments: list[str], timeout_seconds: float
) -> int:
    """The exit status of `python ARGUMENTS` in the machine."""
    BUILD.mkdir(parents=True, exist_ok=True)
    qemu = need(machine.qemu, machine.package)
    mkfs = need("mkfs.ext4", "e2fsprogs")
    release = Release(KERNELS.get(kernel, kernel), machine.debian)
    (image,) = find_images(release.kernel())
    modules = in_order(release.kernel() / "usr/lib/modules")
    passed = {key: value for key, value in os.environ.items() if key.startswith("AIOPOLL_")}
    passed |= {"TMPDIR": "/scratch", "LANG": "C.UTF-8"}
    if machine.is_ours:
        shares = {"host": ("/", "")}
        passed |= {"PATH": os.environ["PATH"], "HOME": str(Path.home())}
        python = sys.executable
    else:
        root = user_space(machine.debian)
        install_wheels(root, machine.wheel, wheels)
        shares = {"host": (str(root), ""), "checkout": (str(ROOT), str(ROOT))}
        passed |= {"PATH": PATH, "HOME": "/root"}
        python = f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    command = ["env", *(f"{key}={value}" for key, value in passed.items()), python, *arguments]
    files = {f"modules/{name}.ko": content for name, content in modules.items()}
    files["bin/busybox"] = release.busybox()
    files["init"] = INIT.format(
        modules=" ".join(modules),
        shares="\n".join(shlex.join(["share", tag, at]) for tag, (_, at) in shares.items()),
    ).encode()
    files["tests"] = TESTS.format(
        directory=shlex.quote(str(ROOT)), command=shlex.join(command)
    ).encode()
    with tempfile.TemporaryDirectory() as scratch:
        names = ("kernel", "initramfs", "disk", "status")
        vmlinuz, initramfs, disk, status = (Path(scratch, name) for name in names)
        vmlinuz.write_bytes(bootable(image.read_bytes()))
        initramfs.write_bytes(archive(files))
        for path, size in ((disk, DISK_BYTES), (status, STATUS_BYTES)):
            with path.open("wb") as opened:
                opened.truncate(size)
        subprocess.run([mkfs, "-q", "-F", disk], check=True)
        options = [qemu, *machine.options, "-accel", acceleration(machine), "-m", str(MEMORY_MIB)]
        options += ["-smp", str(len(os.sched_getaffinity(0))), "-no-reboot", "-nic", "none"]
        options += ["-kernel", str(vmlinuz), "-initrd", str(initramfs)]
        options += ["-append", f"{machine.boot} quiet panic=-1 mitigations=off"]
        options += ["-display", "none", "-monitor", "none", "-serial", "stdio"]
        for tag, (folder, _) in shares.items():
            share = f"local,path={folder},mount_tag={tag},security_model=none,readonly=on"
            options += ["-virtfs", f"{share},multidevs=remap"]
        for drive in (disk, status):
            options += ["-drive", f"file={drive},format=raw,if=virtio,cache=unsafe"]
        try:
            subprocess.run(options, stdin=subprocess.DEVNULL, timeout=timeout_seconds, check=True)
            return int(status.read_bytes().strip(b"\0"))
        except subprocess.TimeoutExpired:
            print(f"vm: not done within {timeout_seconds:.0f} s", file=sys.stderr)
        except (subprocess.CalledProcessError, ValueError) as error:
            print(f"vm: it ended without a status: {error}", file=sys.stderr)
        return 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=str(__doc__).partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument(
        "--kernel", default="6.1", help=f"{', '.join(KERNELS)}, or a release of Debian: sid"
    )
    parser.add_argument("--arch", choices=MACHINES, default="x86_64")
    parser.add_argument("--wheel", action="append", type=Path, default=[], help="for another arch")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--timeout", type=float, default=7200, metavar="SECONDS")
    options, arguments = parser.parse_known_args()
    machine = MACHINES[options.arch]
    pytest = ["-m", "tests.support.parallel", str(options.processes)]
    pytest += ["-o", "faulthandler_timeout=1200", *arguments]
    return run(options.kernel, machine, options.wheel, pytest, options.timeout)


if __name__ == "__main__":
    sys.exit(main())
