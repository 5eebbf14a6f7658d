"""fio with libaio: the rate of the disk for one process in C."""

import argparse
import json
import subprocess
from pathlib import Path

from benchmarks import program
from benchmarks.files import BLOCK


def run(
    arguments: argparse.Namespace, path: Path, mode: str, depth: int, size: int = BLOCK
) -> None:
    """Runs one job of fio's `rw` mode; reports its metrics as `program.measure` does."""
    command = ["fio", "--name=job", f"--filename={path}", f"--size={path.stat().st_size}"]
    command += ["--ioengine=libaio", "--direct=1", f"--rw={mode}", f"--bs={size}"]
    command += [f"--iodepth={depth}", "--norandommap", "--output-format=json"]
    if "write" in mode:
        command += ["--sync=dsync", "--buffer_pattern=0x01"]
    if arguments.operations:
        command += [f"--number_ios={arguments.operations}"]
    else:
        command += ["--time_based", f"--runtime={arguments.seconds}s"]
        command += [f"--ramp_time={arguments.warm_up}s"]
    while program.started():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"fio: {done.stderr}")
        job = json.loads(done.stdout)["jobs"][0]
        side = job["write" if "write" in mode else "read"]
        percentile = side["clat_ns"]["percentile"]
        seconds = side["runtime"] / 1e3 or 1e-3
        program.tell(
            operations=side["total_ios"],
            seconds=seconds,
            p50_us=percentile["50.000000"] / 1e3,
            p99_us=percentile["99.000000"] / 1e3,
            cpu_seconds=(job["usr_cpu"] + job["sys_cpu"]) / 100 * seconds,
            context_switches=job["ctx"],
        )
