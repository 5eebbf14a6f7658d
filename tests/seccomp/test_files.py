"""Async files in a sandbox: in Docker's and Podman's on the ring, without AIO all in threads."""

import json

import pytest

pytestmark = pytest.mark.subprocess

REFUSALS = ["io_setup=EPERM", "io_setup=ENOSYS", "io_setup=EAGAIN", "io_submit=EPERM"]


@pytest.mark.parametrize(
    "place", ["docker", "podman", "systemd", "docker in runc", "podman in crun"]
)
def test_files_take_the_ring(check, place: str) -> None:
    for counters in json.loads(check(place, "files")):
        assert (counters["aio_writes"], counters["aio_syncs"]) == (16, 1)
        assert counters["aio_reads"] == 1
        assert counters["thread_writes"] == 0


@pytest.mark.parametrize("refusal", REFUSALS)
def test_files_without_aio_are_in_threads(check, refusal: str) -> None:
    for counters in json.loads(check(refusal, "files")):
        assert [counters[f"aio_{what}"] for what in ("reads", "writes", "syncs")] == [0, 0, 0]
        assert (counters["thread_writes"], counters["thread_syncs"]) == (16, 1)
