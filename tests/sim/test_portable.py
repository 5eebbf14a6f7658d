"""The simulator needs no extension module, and no name that only Linux's Python has.

Another system is imitated: the names that its os, socket, select, signal, fcntl and errno lack are
removed, and the extension modules cannot be imported.
"""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.subprocess

ELSEWHERE = '''
import asyncio, errno, fcntl, os, select, signal, socket, sys

LACKING = {
    os: """
        O_DIRECT O_TMPFILE O_PATH O_NOATIME O_RSYNC O_LARGEFILE posix_fallocate pipe2 posix_fadvise
        getrandom memfd_create eventfd eventfd_read eventfd_write splice pidfd_open copy_file_range
        getxattr setxattr listxattr removexattr sched_getaffinity sched_setaffinity
    """,
    socket: """
        SO_DOMAIN SO_PROTOCOL SO_PASSCRED SO_PEERCRED SO_MARK SO_PRIORITY SO_BINDTODEVICE
        SO_INCOMING_CPU AF_NETLINK AF_ALG AF_PACKET AF_VSOCK MSG_NOSIGNAL MSG_CMSG_CLOEXEC
        MSG_ERRQUEUE MSG_MORE MSG_CONFIRM SOCK_NONBLOCK SOCK_CLOEXEC TCP_INFO TCP_CORK TCP_QUICKACK
        TCP_USER_TIMEOUT TCP_DEFER_ACCEPT TCP_CONGESTION TCP_LINGER2 TCP_SYNCNT TCP_WINDOW_CLAMP
        TCP_KEEPIDLE SCM_CREDENTIALS ALG_SET_KEY
    """,
    signal: "SIGRTMIN SIGRTMAX SIGPWR SIGPOLL SIGSTKFLT SIGCLD sigtimedwait sigwaitinfo",
    errno: "EBADE EBADFD EBADR EBADRQC EBADSLT ECHRNG ECOMM EL2HLT EUNATCH EREMOTEIO ENONET",
}
STARTS = {
    os: ("MFD_", "EFD_", "RWF_", "GRND_", "SCHED_", "TFD_", "SPLICE_", "XATTR_", "POSIX_FADV"),
    socket: ("ALG_", "CAN_", "NETLINK_", "PACKET_", "VM_", "TIPC"),
    select: ("epoll", "EPOLL"),
    fcntl: ("F_OFD", "F_SETPIPE", "F_GETPIPE", "F_ADD_S", "F_SEAL", "F_GET_SEALS", "F_SETLEASE"),
}
for module, names in LACKING.items():
    for name in names.split():
        vars(module).pop(name, None)
for module, starts in STARTS.items():
    for name in [name for name in vars(module) if name.startswith(starts)]:
        del vars(module)[name]


class NoExtensions:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("aiopoll.aio", "aiopoll.reactor", "aiopoll.loop", "aiopoll.files")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, NoExtensions())
'''

PROGRAM = """
from aiopoll import sim

async def one(reader, writer):
    writer.write((await reader.readline()).upper())
    writer.close()

async def serve():
    async with await asyncio.start_server(one, "0.0.0.0", 80) as server:
        await server.serve_forever()

async def program(world):
    world.host("api", serve)
    await world.sleep(1)
    reader, writer = await asyncio.open_connection("api", 80)
    writer.write(b"hello\\n")
    line = await reader.readline()
    writer.close()
    with open("/file", "w") as file:
        file.write("on disk")
        os.fsync(file.fileno())
    return line, open("/file").read(), await asyncio.to_thread(len, "abc")

print(sim.run(program, seed=1))
"""

COMMAND = """
from aiopoll.cli import main
sys.exit(main(["sim", "--help"]))
"""


@pytest.mark.parametrize(
    ("program", "shown"),
    [(PROGRAM, r"(b'HELLO\n', 'on disk', 3)"), (COMMAND, "replay")],
    ids=["run", "command"],
)
def test_it_runs_where_only_the_simulator_can(program: str, shown: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", ELSEWHERE + program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert shown in result.stdout
