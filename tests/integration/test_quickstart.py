"""The programs of docs/tutorial/quickstart.md and from-libaio.md that are files there."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .children import Child

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]

DOCS = Path(__file__).parents[2] / "docs"
BIN = Path(sys.executable).parent


def blocks(page: str, kind: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("unchanged", [False, True], ids=["aiopoll.run", "aiopoll run"])
def test_the_server_of_the_quickstart(
    unchanged: bool, start: Callable[..., Child], tmp_path: Path
) -> None:
    (program,) = blocks("tutorial/quickstart.md", 'python title="server.py"')
    serve, ask, run = (block.strip() for block in blocks("tutorial/quickstart.md", "sh"))
    if unchanged:
        program = program.replace("import aiopoll\n", "").replace("aiopoll.run", "asyncio.run")
        serve = run
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    assert "aiopoll" not in program or not unchanged
    (tmp_path / "server.py").write_text(program.replace("8888", port), encoding="utf-8")
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}"}
    server = start(shlex.split(serve), environment, cwd=tmp_path, executable=BIN / serve.split()[0])
    server.wait_for("aio")
    command = shlex.split(ask.replace("8888", port))
    client = start(command, environment, executable=sys.executable)
    assert client.finish() == 0, client.output
    assert client.lines == ["b'hello\\n'"]


def test_the_program_in_c_prints_what_its_translations_do(tmp_path: Path) -> None:
    compiler = shutil.which(os.environ.get("CC", "gcc"))
    if compiler is None or not Path("/usr/include/libaio.h").exists():
        pytest.skip("skips.toml: libaio's header")
    (program,) = blocks("how-to/from-libaio.md", 'c title="program.c"')
    (tmp_path / "program.c").write_text(program, encoding="utf-8")
    command = [compiler, "-Wall", "-Werror", "-o", "program", "program.c", "-laio"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    done = subprocess.run([tmp_path / "program"], capture_output=True, text=True, timeout=60)
    assert done.stdout == "written 5\nread hello\nreadable 1\n"
    for translation in blocks("how-to/from-libaio.md", "python"):
        for line in done.stdout.splitlines()[:2]:
            assert f"  # {line}" in translation
