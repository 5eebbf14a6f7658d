"""Runs pytest in a virtual machine with Debian's own kernel: `make test-vm`.

Facts. A process may hold as many files as its hard RLIMIT_NOFILE says, which takes
CAP_SYS_RESOURCE to raise; a container's root is seldom given it, or may mount.  Debian's kernel has
ext4, 9p, overlayfs and virtio as modules; its cloud kernel has no 9p.  /dev/kvm alone is no proof
of KVM: where the processor shows neither vmx nor svm (a virtual machine that nests by other means),
Debian's kernel does not get to its first line under it.
Rule. The machine sees this one's files over 9p, read-only, under a tmpfs that takes what is
written; temporary files are on an empty ext4 disk.  It has no network but loopback, its root may do
everything, and pytest is given 70,000 open files.  Its first serial port is our output, the second
takes the exit status.  Without KVM it is emulated.
Why. What a sandbox skips runs somewhere, and the rest on another kernel than the one underneath,
with the very files of this checkout: nothing is copied, built or installed in there.
Cost. Emulated, a test takes about ten times as long.  What never ends is ended at --timeout.
"""

import argparse
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ROOT / "build" / "vm"  # the kernel and busybox, unpacked
MODULES = ("virtio_pci", "virtio_blk", "9pnet_virtio", "9p", "overlay", "crc32c_generic", "ext4")
MEMORY_MIB = 4096
DISK_BYTES = 4 << 30  # sparse

# The initramfs: mounts it all below /new, then makes that the root directory.
INIT = """#!/bin/busybox sh
set -e
/bin/busybox --install -s /bin
trap 'poweroff -f' EXIT
mkdir /host /rw /new
for module in {modules}; do insmod /modules/$module.ko; done
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose host /host
mount -t tmpfs tmpfs /rw
mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=/host,upperdir=/rw/upper,workdir=/rw/work overlay /new
mount -t proc proc /new/proc
mount -t sysfs sysfs /new/sys
mount -t devtmpfs devtmpfs /new/dev
mkdir /new/dev/pts /new/dev/shm /new/scratch
mount -t devpts devpts /new/dev/pts
mount -t tmpfs tmpfs /new/dev/shm
mount -t ext4 /new/dev/vda /new/scratch
chmod 1777 /new/dev/shm /new/scratch
ln -s /proc/self/fd /new/dev/fd
ifconfig lo up
cp /bin/busybox /tests /new/scratch
exec switch_root /new /scratch/busybox sh /scratch/tests
"""

# Process 1 from there on.  Where it fails the kernel panics, which ends the machine too.
TESTS = """
ulimit -n 70000
cd {directory}
{{ {command}; echo $? >/dev/ttyS1; }} 2>&1 </dev/null | /scratch/busybox cat
/scratch/busybox poweroff -f
"""


def need(program: str, package: str) -> str:
    """The path of a program; as root it is installed, otherwise an error names the package."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    if not (found := shutil.which(program, path=path)):
        install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", package]
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            sys.exit(f"{program} not found: {shlex.join(install)}")
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
        found = shutil.which(program, path=path)
    return found or sys.exit(f"{package} has no {program}")


def unpack(package: str, holds: str) -> Path:
    """Debian's package in a directory of its own, without installing it: what matches `holds`."""
    directory = PACKAGES / package
    if not directory.is_dir():
        with tempfile.TemporaryDirectory(dir=PACKAGES) as scratch:
            command = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package]
            subprocess.run(command, cwd=scratch, check=True)
            (archive,) = Path(scratch).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", archive, f"{scratch}/unpacked"], check=True)
            Path(scratch, "unpacked").rename(directory)
    (found,) = directory.glob(holds)
    return found


def newest_kernel() -> str:
    """The package that linux-image-amd64 stands for."""
    command = ["apt-cache", "depends", "linux-image-amd64"]
    depends = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if not (match := re.search(r"Depends: (linux-image-[\w.+-]+)", depends)):
        sys.exit("apt knows no linux-image-amd64: only Debian has it (apt-get update?)")
    return match[1]


def in_order(modules: Path) -> dict[str, bytes]:
    """The modules of MODULES, each behind those it depends on, by their own word for it."""
    paths = {path.stem.replace("-", "_"): path for path in modules.rglob("*.ko")}
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in found or name not in paths:  # what is no module is in the kernel
            return
        content = paths[name].read_bytes()
        depends = re.search(rb"\0depends=([^\0]*)\0", content)
        for other in depends[1].decode().split(",") if depends else ():
            add(other.replace("-", "_"))
        found[name] = content

    for name in MODULES:
        add(name)
    return found


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


def acceleration() -> str:
    """KVM where it is the processor's own."""
    processor = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    usable = re.search(r"^flags.*\b(vmx|svm)\b", processor, re.MULTILINE)
    return "kvm" if usable and os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg"


def run(command: list[str], timeout_seconds: float) -> int:
    """The exit status of the command in the machine."""
    PACKAGES.mkdir(parents=True, exist_ok=True)
    qemu = need("qemu-system-x86_64", "qemu-system-x86")
    mkfs = need("mkfs.ext4", "e2fsprogs")
    package = newest_kernel()
    kernel = unpack(package, "boot/vmlinuz-*")
    modules = in_order(unpack(package, "lib/modules/*"))
    passed = [f"{key}={value}" for key, value in os.environ.items() if key.startswith("AIOPOLL_")]
    passed += [f"PATH={os.environ['PATH']}", f"HOME={Path.home()}", "TMPDIR=/scratch"]
    files = {f"modules/{name}.ko": content for name, content in modules.items()}
    files["bin/busybox"] = unpack("busybox-static", "bin/busybox").read_bytes()
    files["init"] = INIT.format(modules=" ".join(modules)).encode()
    files["tests"] = TESTS.format(
        directory=shlex.quote(str(ROOT)), command=shlex.join(["env", *passed, *command])
    ).encode()
    with tempfile.TemporaryDirectory() as scratch:
        initramfs, disk, status = (Path(scratch, name) for name in ("initramfs", "disk", "status"))
        initramfs.write_bytes(archive(files))
        with disk.open("wb") as image:
            image.truncate(DISK_BYTES)
        subprocess.run([mkfs, "-q", "-F", disk], check=True)
        machine = [qemu, "-accel", acceleration(), "-cpu", "max", "-m", str(MEMORY_MIB)]
        machine += ["-smp", str(len(os.sched_getaffinity(0))), "-no-reboot", "-nic", "none"]
        machine += ["-kernel", str(kernel), "-initrd", str(initramfs)]
        machine += ["-append", "console=ttyS0 quiet panic=-1 mitigations=off"]
        machine += ["-display", "none", "-monitor", "none"]
        machine += ["-serial", "stdio", "-serial", f"file:{status}"]
        machine += [
            "-virtfs",
            "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
        ]
        machine += ["-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"]
        try:
            subprocess.run(machine, stdin=subprocess.DEVNULL, timeout=timeout_seconds, check=True)
            return int(status.read_text(encoding="ascii"))
        except subprocess.TimeoutExpired:
            print(f"vm: not done within {timeout_seconds:.0f} s", file=sys.stderr)
        except (subprocess.CalledProcessError, ValueError) as error:
            print(f"vm: it ended without a status: {error}", file=sys.stderr)
        return 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs pytest in a virtual machine.")
    parser.add_argument("--timeout", type=float, default=7200, metavar="SECONDS")
    options, arguments = parser.parse_known_args()
    pytest = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-o",
        "faulthandler_timeout=1200",
        *arguments,
    ]
    return run(pytest, options.timeout)


if __name__ == "__main__":
    sys.exit(main())
