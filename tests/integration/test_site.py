"""The page of `make run`: what it sends, its load, and what a browser shows of it."""

import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiopoll import ReactorStatistics

SITE = Path(__file__).parents[2] / "examples" / "site.py"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

COLORS = """[...document.querySelectorAll("canvas")].map((canvas) => {
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const colors = new Set();
  for (let at = 0; at < pixels.length; at += 4)
    if (pixels[at + 3] === 255) colors.add(pixels.slice(at, at + 3).join());
  return colors.size;
})"""
"""How many opaque colors each plot has."""

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    command = [sys.executable, "-u", "-m", "aiopoll", "run", str(SITE), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            found = None
            while found is None:
                line = process.stdout.readline()
                assert line, process.stderr.read() if process.stderr else ""
                found = re.search(r"http://[\d.]+:\d+", line)
            yield found[0]
            with urllib.request.urlopen(f"{found[0]}/live", timeout=60) as stream:
                assert stream.readline().startswith(b"data: ")
                process.send_signal(signal.SIGINT)
                # aiohttp would wait a minute for a page that is open.
                _, err = process.communicate(timeout=40)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, "")


def samples(url: str, count: int) -> list[dict[str, Any]]:
    """The next samples that the page would get."""
    with urllib.request.urlopen(f"{url}/live", timeout=60) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        found: list[dict[str, Any]] = []
        while len(found) < count:
            line = stream.readline()
            assert line
            if line.startswith(b"data: "):
                found.append(json.loads(line[6:]))
    return found


def ask_for_load(url: str, body: bytes) -> tuple[int, str]:
    request = urllib.request.Request(f"{url}/load", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_each_sample_has_what_the_page_draws(url: str) -> None:
    script = (SITE.parent / "site_page" / "live.js").read_text("utf-8")
    drawn = set(re.findall(r'\["(\w+)", "', script))
    assert "requests" in drawn
    assert "file_ring" in drawn
    for sample in samples(url, 2):
        assert drawn <= sample.keys()
        parts = [sample[f"{part}_percent"] for part in ("callbacks", "polling", "sleeping")]
        assert sum(parts) == pytest.approx(100)


def test_load_shows_in_the_samples(url: str) -> None:
    assert ask_for_load(url, b'{"connections": 20, "seconds": 3}')[0] == 200
    assert ask_for_load(url, b'{"connections": 20, "seconds": 3}') == (
        409,
        "there is load already\n",
    )
    seen = samples(url, 11)
    assert max(sample["requests"] for sample in seen) > 20
    assert max(sample["connections"] for sample in seen) > 20
    assert max(sample["file_ring"] + sample["file_inline"] for sample in seen) > 0
    assert max(sample["request_p99_ms"] for sample in seen) > 0


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", "Expecting value"),
        (b"[]", "connections and seconds"),
        (b'{"connections": "9", "seconds": 1}', "connections and seconds"),
        (b'{"connections": 0, "seconds": 1}', "from 1 to 500"),
        (b'{"connections": 501, "seconds": 1}', "from 1 to 500"),
        (b'{"connections": 9, "seconds": 0}', "from 0 to 60"),
        (b'{"connections": 9, "seconds": 61}', "from 0 to 60"),
    ],
)
def test_what_is_no_load_is_refused(url: str, body: bytes, cause: str) -> None:
    status, text = ask_for_load(url, body)
    assert status == 400
    assert cause in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_draws_the_plots(url: str, scheme: Any, width: int) -> None:
    if CHROMIUM is None:
        pytest.skip("skips.toml: the page in a browser")
    sync_api = pytest.importorskip("playwright.sync_api")
    problems: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 900}
        ).new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console",
            lambda line: problems.append(line.text) if line.type in ("error", "warning") else None,
        )
        page.goto(url)
        page.wait_for_function("document.documentElement.dataset.samples >= 2")
        assert page.locator("canvas").count() == 8
        page.fill("#connections", "10")
        page.fill("#seconds", "2")
        page.click("text=Put load on it")
        page.wait_for_function(
            "Number(document.getElementById('tile-requests').textContent.replaceAll(',', '')) > 10"
        )
        page.wait_for_function("!document.querySelector('button').disabled", timeout=60_000)
        page.click("summary")
        names = page.locator("#counters th").all_inner_texts()
        assert {f"reactor.{name}" for name in ReactorStatistics._fields} <= set(names)
        assert page.locator("#counters td").first.inner_text() != ""
        colors = page.evaluate(COLORS)
        assert min(colors) >= 2, colors  # the grid, and a line
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert "backend" in page.inner_text("#state")
        page.goto(f"{url}/docs/")
        assert page.locator("a").count() > 20
        browser.close()
    assert problems == []
