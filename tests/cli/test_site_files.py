"""The files that `make run` sends: by name, with the types that a browser needs."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

web = pytest.importorskip("aiohttp.web")

EXAMPLES = str(Path(__file__).parents[2] / "examples")


@pytest.fixture
def site_files() -> Iterator[Any]:
    sys.path.insert(0, EXAMPLES)
    try:
        import site_files

        yield site_files
    finally:
        sys.path.remove(EXAMPLES)


def reply(site_files: Any, paths: dict[str, Path], name: str) -> Any:
    async def main() -> Any:
        files = site_files.Files(paths)
        try:
            return await files.serve(name)
        finally:
            await files.close(None)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "kind", "charset"),
    [
        ("a.html", "text/html", "utf-8"),
        ("a.css", "text/css", "utf-8"),
        ("a.js", "text/javascript", "utf-8"),
        ("a.json", "application/json", "utf-8"),
        ("a.svg", "image/svg+xml", "utf-8"),
        ("a.png", "image/png", None),
        ("a.woff2", "font/woff2", None),
        ("a.md", "text/plain", "utf-8"),
        ("LICENSE", "text/plain", "utf-8"),
    ],
)
def test_each_file_has_its_type(
    site_files: Any, tmp_path: Path, name: str, kind: str, charset: str | None
) -> None:
    (tmp_path / name).write_bytes(b"some")
    response = reply(site_files, {f"docs/{name}": tmp_path / name}, f"docs/{name}")
    assert (response.content_type, response.charset, response.body) == (kind, charset, b"some")


def test_a_folder_is_its_index(site_files: Any, tmp_path: Path) -> None:
    (path := tmp_path / "index.html").write_bytes(b"index")
    paths = {"docs/how-to/index.html": path}
    assert reply(site_files, paths, "docs/how-to/").body == b"index"
    with pytest.raises(web.HTTPMovedPermanently) as moved:
        reply(site_files, paths, "docs/how-to")
    assert moved.value.headers["Location"] == "/docs/how-to/"
    for name in ("docs/", "docs", "docs/how-to//", "/docs/how-to/"):
        with pytest.raises(web.HTTPNotFound):
            reply(site_files, paths, name)
