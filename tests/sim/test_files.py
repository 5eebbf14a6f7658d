"""The ordinary names of files, inside a world and outside: the same calls, the same results."""

import contextlib
import errno
import fcntl
import functools
import glob
import io
import os
import pathlib
import shutil
import stat
import tempfile
import zoneinfo
from pathlib import Path

import pytest

from aiopoll import sim

from .inside_world import inside


@pytest.fixture
def everywhere(tmp_path):
    """Run a program in a directory of the machine and in one of a host: equal results."""

    def compare(program):
        def within():
            os.mkdir("/work")
            os.chdir("/work")
            return program(Path("/work"))

        before = os.getcwd()
        os.chdir(tmp_path)
        try:
            there = program(tmp_path)
        finally:
            os.chdir(before)
        here = inside(within)
        assert here == there
        return here

    return compare


def error_of(function, *arguments, **options):
    try:
        return function(*arguments, **options)
    except (OSError, ValueError, TypeError) as exc:
        if isinstance(exc, OSError):
            names = [
                os.path.basename(name) if isinstance(name, (str, bytes, os.PathLike)) else name
                for name in (exc.filename, exc.filename2)
            ]
            return type(exc).__name__, exc.errno, *names
        # Versions differ in what they say of a null byte.
        return type(exc).__name__, "" if "null" in str(exc) else str(exc)


MODES = ["r", "w", "x", "a", "r+", "w+", "x+", "a+", "rb", "wb", "xb", "ab", "r+b", "w+b", "a+b"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("there", [False, True])
def test_open_in_every_mode(everywhere, mode, there):
    def program(top):
        if there:
            Path("f").write_bytes("one\ntwé\r\nthree".encode())
        seen = []
        try:
            encoding = None if "b" in mode else "utf-8"
            file = open("f", mode, encoding=encoding)  # noqa: SIM115
        except OSError as exc:
            return type(exc), exc.errno, exc.filename
        with file:
            seen += [file.name, file.mode, file.readable(), file.writable(), file.seekable()]
            seen += [type(file), file.tell(), file.isatty()]
            data = "né\nw" if "b" not in mode else b"new\nx"
            for call in (file.readline, functools.partial(file.write, data), file.flush, file.tell):
                try:
                    seen.append(call())
                except (OSError, ValueError) as exc:
                    seen.append((type(exc), str(exc)))
            with contextlib.suppress(io.UnsupportedOperation):
                file.seek(0)
                seen += file
            with contextlib.suppress(io.UnsupportedOperation):
                seen.append(file.truncate(3))
        return seen, Path("f").read_bytes(), file.closed

    everywhere(program)


def test_wrong_arguments_of_open(everywhere):
    def program(top):
        Path("f").write_bytes(b"")
        os.mkdir("d")
        return [
            error_of(open, *arguments, **options)
            for arguments, options in (
                (("none",), {}),
                (("d",), {}),
                (("d", "w"), {}),
                (("f/x",), {}),
                (("f", "rw"), {}),
                (("f", "rr"), {}),
                (("f", "z"), {}),
                (("f", "tb"), {}),
                (("f", "rb"), {"encoding": "utf-8"}),
                (("f", "rb"), {"errors": "strict"}),
                (("f", "rb"), {"newline": "\n"}),
                (("f", "r", 0), {}),
                (("f",), {"closefd": False}),
                (("f",), {"newline": "x"}),
                (("f",), {"opener": lambda path, flags: -1}),
                ((999,), {}),
                ((-1,), {}),
                (("a\0b",), {}),
                ((1.5,), {}),
                ((None,), {}),
            )
        ]

    everywhere(program)


def test_files_by_descriptor_and_opener(everywhere):
    def program(top):
        fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o640)
        with open(fd, "w", closefd=False) as file:
            file.write("text")
        seen = [os.fstat(fd).st_size, oct(os.fstat(fd).st_mode), os.lseek(fd, 0, os.SEEK_CUR)]
        with os.fdopen(fd, "r+b", buffering=0) as raw:
            seen += [type(raw) is io.FileIO, isinstance(raw, io.FileIO), raw.mode, raw.closefd]
            seen += [raw.seek(1), raw.read(2), raw.readall(), raw.write(b"!"), raw.tell()]
            array = bytearray(9)
            raw.seek(0)
            seen += [raw.readinto(array), bytes(array)]
        seen.append(error_of(os.fstat, fd))
        opener = functools.partial(os.open, mode=0o600)
        with open("g", "x", opener=opener):
            pass
        with io.FileIO("g", "a+") as raw:
            seen += [repr(raw).startswith("<_io.FileIO name='g' mode='ab+'"), raw.write(b"x")]
        return [*seen, oct(os.stat("g").st_mode), Path("g").read_text()]

    everywhere(program)


def test_tree_calls(everywhere):
    def program(top):
        os.makedirs("a/b/c")
        for name in ("a/one", "a/b/two", "a/b/c/three"):
            Path(name).write_text(name)
        os.symlink("b", "a/link")
        os.link("a/one", "a/hard")
        os.mkfifo("a/fifo")
        walked = sorted((p, sorted(d), sorted(f)) for p, d, f in os.walk("a"))
        with os.scandir("a") as found:
            entries = sorted(
                (e.name, e.path, e.is_dir(), e.is_file(), e.is_symlink(), os.fspath(e))
                for e in found
            )
        seen = [
            walked,
            entries,
            sorted(os.listdir(b"a")),
            sorted(glob.glob("a/**/t*", recursive=True)),
            sorted(map(str, Path("a").rglob("*"))),
            os.path.exists("a/link/two"),
            os.path.realpath("a/link/two") == str(top / "a/b/two"),
            os.path.samefile("a/one", "a/hard"),
            os.path.isdir("a/link"),
            os.path.islink("a/link"),
            os.path.getsize("a/one"),
            os.readlink("a/link"),
            os.readlink(b"a/link"),
            stat.filemode(os.lstat("a/fifo").st_mode),
            os.stat("a/one").st_nlink,
            os.access("a/one", os.X_OK),
            os.access("a/none", os.F_OK),
            os.getcwd() == str(top),
        ]
        os.rename("a/one", "a/b/one")
        os.replace("a/b/two", "a/b/one")
        os.remove("a/hard")
        seen += [sorted(os.listdir("a/b")), Path("a/b/one").read_text()]
        for call, arguments in (
            (os.rmdir, ("a",)),
            (os.rmdir, ("a/b/one",)),
            (os.unlink, ("a/b",)),
            (os.rename, ("a", "a/b")),
            (os.rename, ("none", "x")),
            (os.link, ("none", "x")),
            (os.symlink, ("x", "a")),
            (os.listdir, ("none",)),
            (os.scandir, ("a/b/one",)),
            (os.mkdir, ("a",)),
            (os.stat, ("none",)),
            (os.stat, (999,)),
            (os.chdir, ("none",)),
            (os.stat, ("x\0",)),
            (os.stat, (1.5,)),
            (os.truncate, ("a", 3)),
        ):
            seen.append(error_of(call, *arguments))
        shutil.copytree("a", "copy", symlinks=True, ignore=shutil.ignore_patterns("fifo"))
        seen.append(sorted(map(str, Path("copy").rglob("*"))))
        shutil.move("copy/b", "moved")
        shutil.rmtree("copy")
        seen.append(sorted(map(str, Path("moved").rglob("*"))))
        return seen

    everywhere(program)


def test_pathlib(everywhere):
    def program(top):
        (top / "d").mkdir()
        (top / "d").mkdir(exist_ok=True)
        path = top / "x" / "y" / "f.txt"
        path.parent.mkdir(parents=True)
        path.touch()
        path.write_text("héllo", encoding="utf-8")
        with path.open("a", encoding="utf-8") as file:
            file.write("!")
        moved = path.rename(path.with_suffix(".bak"))
        moved.chmod(0o600)
        (top / "link").symlink_to(moved)
        seen = [
            moved.read_text(encoding="utf-8"),
            moved.stat().st_size,
            oct(moved.stat().st_mode),
            path.exists(),
            (top / "link").is_symlink(),
            (top / "link").resolve() == moved.resolve(),
            sorted(p.name for p in top.iterdir()),
            sorted(p.name for p in top.glob("*/*")),
            Path.cwd() == top,
        ]
        (top / "link").unlink()
        (top / "link").unlink(missing_ok=True)
        return seen

    everywhere(program)


def test_descriptor_calls(everywhere):
    def program(top):
        fd = os.open("f", os.O_RDWR | os.O_CREAT)
        seen = [
            os.write(fd, memoryview(b"0123456789")),
            os.writev(fd, [b"ab", bytearray(b"cd")]),
            os.pwrite(fd, b"X", 1),
            os.pwritev(fd, [b"Y", b"Z"], 2),
            os.pread(fd, 99, 0),
            os.lseek(fd, 0, os.SEEK_SET),
            os.read(fd, 4),
        ]
        one, two = bytearray(3), bytearray(9)
        seen += [os.readv(fd, [one, two]), bytes(one), bytes(two)]
        seen += [os.preadv(fd, [one], 2), bytes(one)]
        os.ftruncate(fd, 5)
        os.posix_fallocate(fd, 0, 8)
        os.fsync(fd)
        os.fdatasync(fd)
        other = os.open("g", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        seen.append(error_of(os.sendfile, other, fd, 0, 5))
        third = os.open("h", os.O_RDWR | os.O_CREAT)
        seen += [os.sendfile(third, fd, 0, 5), os.copy_file_range(fd, third, 3, 0)]
        seen.append(os.pread(third, 99, 0))
        os.dup2(fd, third)
        seen += [os.pread(third, 99, 0), os.get_inheritable(fd), os.get_inheritable(third)]
        os.set_inheritable(fd, True)
        seen += [os.get_inheritable(fd), fcntl.fcntl(fd, fcntl.F_GETFD), os.get_blocking(fd)]
        os.set_blocking(fd, False)
        seen += [os.get_blocking(fd), os.isatty(fd), os.fstat(fd).st_size]
        os.utime("f", ns=(1_500_000_001, 2_000_000_003))
        status = os.stat("f")
        seen += [status.st_atime_ns, status.st_mtime_ns, status.st_mtime, status.st_blocks]
        os.utime("f", (1.5, 2))
        seen += [os.stat("f").st_atime, os.stat("f").st_mtime_ns]
        reader, writer = os.pipe()
        seen += [os.write(writer, b"x"), os.read(reader, 9), error_of(os.lseek, reader, 0, 0)]
        for number in (fd, other, third, reader, writer):
            os.close(number)
        seen += [error_of(os.close, fd), error_of(os.read, fd, 1), error_of(os.write, fd, b"")]
        return seen

    everywhere(program)


def test_locks(everywhere):
    def program(top):
        with open("f", "w") as one, open("f", "w") as two:
            fcntl.flock(one, fcntl.LOCK_EX)
            seen = [error_of(fcntl.flock, two.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)]
            fcntl.flock(one, fcntl.LOCK_UN)
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.lockf(one, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 10)
            os.lockf(one.fileno(), os.F_TEST, 10)
            seen.append(error_of(fcntl.lockf, one, 0))
        return seen

    everywhere(program)


def test_temporary_files(everywhere):
    def program(top):
        with tempfile.TemporaryFile() as file:
            file.write(b"data")
            file.seek(0)
            seen = [file.read()]
        with tempfile.NamedTemporaryFile("w+", suffix=".txt") as named:
            named.write("text")
            named.flush()
            seen += [Path(named.name).read_text(), os.path.exists(named.name)]
        seen.append(os.path.exists(named.name))
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "f").write_text("x")
            seen.append(os.listdir(directory))
        return [*seen, os.path.exists(directory)]

    everywhere(program)


def test_the_machine_is_read_and_never_written(tmp_path):
    def program():
        here = Path(__file__)
        seen = here.read_bytes()
        assert here.name in os.listdir(here.parent)
        assert here in here.parent.glob("*.py")
        assert here.exists()
        assert here.stat().st_size == len(seen)
        with open(here, "rb") as file:
            assert os.fstat(file.fileno()).st_size == len(seen)
        # A change goes to the host's disk, and leaves the machine as it is.
        with open(here, "a") as file:
            file.write("# more")
        assert here.read_bytes() == seen + b"# more"
        here.with_name("new").write_text("data")
        assert "new" in os.listdir(here.parent)
        assert here.name in os.listdir(here.parent)
        os.makedirs(here.parent / "one" / "two")
        zoneinfo.ZoneInfo.no_cache("Europe/Berlin")
        for path in (tmp_path, "/etc/passwd", "/proc/self", "/root"):
            with pytest.raises(FileNotFoundError):
                os.stat(path)
        with pytest.raises(FileNotFoundError):
            (tmp_path / "f").write_text("")
        return seen

    assert inside(program) == Path(__file__).read_bytes()
    assert not Path(__file__).with_name("new").exists()
    assert not Path(__file__).with_name("one").exists()


def test_standard_descriptors_stay(capfd):
    def program():
        assert os.open("/tmp/f", os.O_CREAT) > 2
        os.write(1, b"by number\n")
        print("by print", flush=True)
        os.write(os.dup(2), b"error\n")
        return os.read(0, 5), os.isatty(1)

    assert inside(program) == (b"", False)
    assert capfd.readouterr() == ("by number\nby print\n", "error\n")


def test_hosts_have_disks_of_their_own():
    @sim.test(seeds=3)
    async def program(world):
        async def main(host):
            assert os.listdir("/tmp") == []
            Path("/tmp/name").write_text(host.name)
            host.state.read = Path("/tmp/name").read_text()

        hosts = [world.host(name, main) for name in ("a", "b")]
        await world.sleep(1)
        assert [host.error for host in hosts] == [None, None]
        assert [host.state.read for host in hosts] == ["a", "b"]
        assert not os.path.exists("/tmp/name")

    program()


def test_a_crash_loses_what_was_not_fsynced():
    @sim.test(seeds=5)
    async def program(world):
        async def main(host):
            host.state.found = sorted(os.listdir("/tmp"))
            with open("/tmp/kept", "w") as file:
                file.write("data")
                file.flush()
                os.fsync(file.fileno())
            directory = os.open("/tmp", os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)
            Path("/tmp/lost").write_text("data")

        host = world.host("a", main)
        await world.sleep(1)
        assert host.error is None
        host.crash()
        host.restart()
        await world.sleep(1)
        assert host.error is None
        assert host.state.found == ["kept"]

    program()


def test_times_are_the_hosts_own():
    @sim.test(seeds=1)
    async def program(world):
        async def main(host):
            host.clock(jump=100)
            Path("/tmp/f").touch()
            host.state.time = os.stat("/tmp/f").st_mtime

        host = world.host("a", main)
        await world.sleep(1)
        assert host.error is None
        Path("/tmp/f").touch()
        assert 98 < host.state.time - os.stat("/tmp/f").st_mtime < 100

    program()


def test_mappings_of_files_are_refused():
    import mmap

    def program():
        with mmap.mmap(-1, 4096) as memory:
            memory[:2] = b"ok"
        with open("/tmp/f", "w+b") as file:
            file.write(b"data")
            file.flush()
            with pytest.raises(sim.Escaped, match="mapping"):
                mmap.mmap(file.fileno(), 4)

    inside(program)


def test_limits_are_the_hosts():
    import resource

    def program():
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1024, 1 << 20)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1 << 20, 1 << 20)
        with pytest.raises(ValueError, match="maximum"):
            resource.setrlimit(resource.RLIMIT_NOFILE, (1, 1 << 21))

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    inside(program)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_a_file_kept_beyond_its_world_is_harmless():
    kept = []

    def program():
        file = open("/tmp/f", "w")  # noqa: SIM115
        file.write("buffered")
        kept.append(file)

    inside(program)
    kept.pop()


def test_errors_name_their_file():
    def program():
        with pytest.raises(FileNotFoundError) as caught:
            open("/tmp/none")  # noqa: SIM115
        return caught.value.filename, caught.value.errno

    assert inside(program) == ("/tmp/none", errno.ENOENT)
    assert isinstance(pathlib.Path("/tmp"), os.PathLike)
