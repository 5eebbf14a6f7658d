"""The site of `make docs`: its links, its names, and what a browser shows of it."""

import importlib
import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest
from tools import docs_api, docs_site

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

SOUGHT = "too many open files"

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]


class Page(HTMLParser):
    """The anchors of a page, where its links lead, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.add(found["href"])
        elif tag == "link" or "src" in found:
            self.loads.add(found.get("src") or found.get("href", ""))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("docs") / "site"
    docs_site.build(output)
    return output


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text("utf-8")) for path in site.rglob("*.html")}


def lead_nowhere(site: Path, pages: dict[Path, Page]) -> list[str]:
    """The links and loads within the site whose file or anchor is not there."""
    found = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links begin at the root, wherever that is
        for link in page.links | page.loads:
            if re.match(r"[a-z]+:", link):
                continue
            target, anchor = urldefrag(link)
            goal = (path.parent / unquote(target)).resolve() if target else path
            goal = goal / "index.html" if goal.is_dir() else goal
            there = goal.is_file() and goal.is_relative_to(site)
            if not there or (
                anchor and goal in pages and unquote(anchor) not in pages[goal].anchors
            ):
                found.append(f"{path.relative_to(site)}: {link}")
    return found


def test_each_link_and_anchor_of_the_site_is_there(site: Path, pages: dict[Path, Page]) -> None:
    assert len(pages) > 50
    assert lead_nowhere(site, pages) == []


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    for text in ('<a href="none/">', '<a href="#none">', '<img src="none.png">'):
        (path := tmp_path / "index.html").write_text(text)
        assert lead_nowhere(tmp_path, {path: Page(text)}) != [], text


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert not [load for load in page.loads if "://" in load], path


def public_names() -> list[str]:
    return [
        f"{page.module}.{name}"
        for page in docs_api.PAGES.values()
        for name in docs_api.names_of(page)
        if f"{page.module}.{name}" != "aiopoll.libaio"
    ]


@pytest.mark.parametrize("module", ["aiopoll", "aiopoll.libaio"])
def test_no_public_name_is_forgotten(module: str) -> None:
    docs_api.check_complete()
    listed = {name.removeprefix(f"{module}.") for name in public_names()}
    modules = {page.module.removeprefix("aiopoll.") for page in docs_api.PAGES.values()}
    assert set(importlib.import_module(module).__all__) - listed - modules == set()


def test_no_public_module_is_forgotten() -> None:
    package = docs_site.ROOT / "src" / "aiopoll"
    public = {
        f"aiopoll.{path.stem}".removesuffix(".__init__")
        for path in package.glob("*.py")
        if "\n__all__ = " in path.read_text("utf-8")
    }
    assert "aiopoll.libaio" in public
    assert public - {page.module for page in docs_api.PAGES.values()} == set()


def test_each_public_name_is_on_one_page(pages: dict[Path, Page]) -> None:
    for name in public_names():
        assert sum(name in page.anchors for page in pages.values()) == 1, name


def test_members_are_shown_with_types_and_docstrings(site: Path) -> None:
    text = (site / docs_site.NAMES / "context" / "index.html").read_text("utf-8")
    text = re.sub(r"<[^>]+>", "", text)
    assert "user_ring: bool | None = None" in text  # of the stub
    assert "Submits the requests in one io_submit" in text  # of the compiled object


def test_each_page_can_be_found(site: Path, pages: dict[Path, Page]) -> None:
    home = site / "index.html"
    for page in docs_site.DOCS.rglob("*.md"):
        name = page.relative_to(docs_site.DOCS).with_suffix("").as_posix()
        name = name.removesuffix("README") if name.endswith("README") else name
        folder = site / ("" if name == "index" else name)
        assert folder / "index.html" in pages
    in_search = json.loads((site / "search.json").read_text("utf-8"))
    assert "io_submit" in json.dumps(in_search)
    found: set[Path] = set()
    queue = [home]
    while queue:
        path = queue.pop()
        if path not in found and path in pages:
            found.add(path)
            goals = [(path.parent / urldefrag(link)[0]).resolve() for link in pages[path].links]
            queue += [goal / "index.html" if goal.is_dir() else goal for goal in goals]
    assert set(pages) - found == {site / "404.html"}


def test_a_warning_ends_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lay_out(source: Path) -> None:
        (source / "index.md").write_text("# Home\n\n[None](none.md)\n")
        (source / "site.css").touch()

    monkeypatch.setattr(docs_site, "lay_out", lay_out)
    monkeypatch.setattr(docs_site, "navigation", lambda source: [{"Home": "index.md"}])
    with pytest.raises(subprocess.CalledProcessError):
        docs_site.build(tmp_path / "site")
    assert not (tmp_path / "site").exists()


@pytest.fixture(scope="module")
def url(site: Path) -> Iterator[str]:
    """Where `make run` serves the site."""
    program = docs_site.ROOT / "examples" / "site.py"
    command = [sys.executable, "-u", str(program), "--port", "0", "--docs", str(site)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = None
            while found is None:
                line = process.stdout.readline()
                assert line, "it has ended"
                found = re.search(r"http://[\d.]+:\d+", line)
            yield f"{found[0]}/docs"
        finally:
            process.kill()


def test_make_run_serves_each_file(url: str, site: Path) -> None:
    for path in site.rglob("*"):
        name = path.relative_to(site).as_posix()
        if path.is_dir() and not (path / "index.html").exists():
            continue
        with urllib.request.urlopen(f"{url}/{name}", timeout=60) as reply:
            body = path if path.is_file() else path / "index.html"
            assert reply.read() == body.read_bytes(), name
            assert reply.url == f"{url}/{name}{'' if path.is_file() else '/'}"
    with urllib.request.urlopen(f"{url}/", timeout=60) as reply:
        assert reply.read() == (site / "index.html").read_bytes()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_and_searches_the_site(url: str, scheme: Any, width: int) -> None:
    if CHROMIUM is None:
        pytest.skip("skips.toml: the page in a browser")
    sync_api = pytest.importorskip("playwright.sync_api")
    problems: list[str] = []
    asked: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 900}
        ).new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console",
            lambda line: problems.append(line.text) if line.type in ("error", "warning") else None,
        )
        for name in ("", "reference/event-loop/", "limitations/", f"{docs_site.NAMES}/files/"):
            page.goto(f"{url}/{name}")
            page.wait_for_load_state("load")
            wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{name} is wider than the window"
        shade = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
        )
        assert (shade < 128) == (scheme == "dark")
        page.wait_for_load_state("networkidle")  # the search has its index
        page.locator(
            ".md-search__button, label.md-header__button[for=__search] >> visible=true"
        ).first.click()
        found = page.locator("a[href*='how-to/troubleshooting/']").filter(has_text="Too many")
        page.get_by_role("combobox").or_(page.locator("input[type=text]")).first.fill(SOUGHT)
        found.first.click()
        page.wait_for_url("**/how-to/troubleshooting/**")
        browser.close()
    assert problems == []
    assert [one for one in asked if not one.startswith((url, "data:", "blob:"))] == []
