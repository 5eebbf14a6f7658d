"""A real Prometheus scrapes a program under `aiopoll run --metrics`, and computes with it."""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .children import LIMIT_S, NO_PRELOAD, Child, start_on_free_port

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]

DASHBOARD = Path(__file__).parents[2] / "docs/how-to/grafana-dashboard.json"
PROGRAM = """
import asyncio, aiopoll, time

async def serve(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    print("runs", flush=True)
    while True:
        for _ in range(50):
            writer.write(b"x" * 1000)
            await reader.readexactly(1000)
        time.sleep(0.03)  # a callback that blocks
        await asyncio.to_thread(lambda: None)
        await aiopoll.read_bytes("program.py")
        await asyncio.sleep(0.05)

asyncio.run(main())
"""


class Prometheus:
    """A server of Prometheus that has a target."""

    def __init__(self, port: int) -> None:
        self._api = f"http://127.0.0.1:{port}/api/v1/"

    def get(self, what: str, **arguments: str) -> Any:
        """What its HTTP API returns as `data`; AssertionError for an error."""
        url = f"{self._api}{what}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=LIMIT_S) as reply:
                result = json.load(reply)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{arguments}: {error.read().decode()}") from None
        assert result["status"] == "success"
        return result["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The series of an expression, with their values now."""
        result = self.get("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def wait_for(self, expression: str, holds: Callable[[float], bool]) -> float:
        """Returns the value of the one series of an expression once it holds."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            found = self.query(expression)
            if len(found) == 1 and holds(found[0][1]):
                return found[0][1]
            assert time.monotonic() < deadline, (expression, found)
            time.sleep(0.2)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip(reason="skips.toml: Prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        metrics = listener.getsockname()[1]
    run = [sys.executable, "-m", "aiopoll", "run", "--metrics", str(metrics), "program.py"]
    program = Child(run, cwd=folder)
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 250ms, scrape_timeout: 250ms}\n"
        "scrape_configs:\n- job_name: app\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{metrics}']}}]\n",
        encoding="utf-8",
    )

    def command(port: int) -> list[str]:
        return [
            binary,
            "--config.file=prometheus.yml",
            f"--storage.tsdb.path=data-{port}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]

    try:
        program.wait_for("runs")
        server, port = start_on_free_port(
            command, "ready to receive web requests", cwd=folder, env=NO_PRELOAD
        )
        try:
            prometheus = Prometheus(port)
            prometheus.wait_for("sum_over_time(up[1m])", lambda count: count >= 8)
            yield prometheus
        finally:
            server.kill()
    finally:
        program.kill()


def test_a_rate_is_that_of_the_program(prometheus: Prometheus) -> None:
    received = prometheus.wait_for("rate(aiopoll_received_bytes_total[10s])", lambda rate: rate > 0)
    sent = prometheus.wait_for("rate(aiopoll_sent_bytes_total[10s])", lambda rate: rate > 0)
    assert 0.5 < received / sent < 2
    prometheus.wait_for("aiopoll_connections", lambda now: now == 2)


def test_the_time_of_a_loop_is_all_time(prometheus: Prometheus) -> None:
    whole = "sum(rate(aiopoll_loop_time_seconds_total[10s]))"
    prometheus.wait_for(whole, lambda rate: 0.5 < rate < 1.5)
    idle = 'sum(rate(aiopoll_loop_time_seconds_total{state="idle"}[10s]))'
    prometheus.wait_for(f"1 - {idle} / {whole}", lambda used: 0.01 < used < 1)


def test_a_quantile_finds_what_blocks(prometheus: Prometheus) -> None:
    buckets = "sum by (le) (rate(aiopoll_callback_duration_seconds_bucket[10s]))"
    slowest = prometheus.wait_for(f"histogram_quantile(1, {buckets})", lambda s: s >= 0.025)
    assert slowest <= 10
    lag = "histogram_quantile(0.99, sum by (le) (rate(aiopoll_lag_seconds_bucket[10s])))"
    assert prometheus.wait_for(lag, lambda s: s > 0) <= 10


def test_types_are_those_of_the_metrics(prometheus: Prometheus) -> None:
    metadata = prometheus.get("metadata")
    assert metadata["aiopoll_lag_seconds"][0]["type"] == "histogram"
    # OpenMetrics, which Prometheus asks for, names a counter without its suffix.
    counter = metadata.get("aiopoll_callbacks") or metadata["aiopoll_callbacks_total"]
    assert counter[0]["type"] == "counter"
    assert metadata["aiopoll_tasks"][0]["type"] == "gauge"
    ((info, one),) = prometheus.query("aiopoll_loop_info")
    assert one == 1
    assert info["loop"] == "main"
    assert info["backend"] in ("aio", "epoll")


@pytest.mark.parametrize(("kind", "key"), [("config", "scrape_configs"), ("rules", "groups")])
def test_what_the_page_has_for_prometheus_is_right(kind: str, key: str, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip(reason="skips.toml: Prometheus")
    page = (DASHBOARD.parent / "watch-a-service.md").read_text("utf-8")
    (text,) = re.findall(rf"^```yaml\n({key}:\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "file.yml").write_text(text, encoding="utf-8")
    command = [promtool, "check", kind, "file.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_each_alert_of_the_page_has_data(prometheus: Prometheus) -> None:
    page = (DASHBOARD.parent / "watch-a-service.md").read_text("utf-8")
    expressions = re.findall(r"^ +expr: (.*?)\n +for:", page, re.MULTILINE | re.DOTALL)
    assert len(expressions) == 3
    for expression in expressions:
        compared, _ = re.sub(r"\s+", " ", expression).rsplit(" > ", 1)
        assert prometheus.query(compared), expression


def test_each_panel_of_the_dashboard_has_data(prometheus: Prometheus) -> None:
    prometheus.wait_for("count(aiopoll_file_requests_total)", lambda count: count > 0)
    prometheus.wait_for("rate(aiopoll_callbacks_total[10s])", lambda rate: rate > 0)
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "10s")
            for variable in ("job", "instance", "loop"):
                expression = expression.replace(f"${variable}", ".*")
            assert prometheus.query(expression), (panel["title"], expression)
