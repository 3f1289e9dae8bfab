"""How long `kts report` takes on a large run, and how much memory; the run is made here, through the store itself.

python -m bench report_scale --iterations 100000000
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kts.model.mode import SharingMode
from kts.model.plan import Condition, Kernel, Plan, Tenant
from kts.model.records import RECORD
from kts.model.run import BlockOutcome, DeviceInfo, Outcome, WorkerInfo
from kts.plan import blocks_of_round
from kts.store import RunWriter, create
from kts.units import NS_PER_S

CHUNK_RECORDS = 1 << 16
SOLO_NS = {"fft": 3_600_000, "gemm": 20_700_000}
SHARED_SLOWER = 1.5
DEVICE = DeviceInfo(kind="other", uuid="none", name="synthetic", label="synthetic records, no device", library="none")


def make_plan(iterations: int, rounds: int) -> Plan:
    """Two tenants in interleaved rounds; ``iterations`` over all four (tenant, condition) pairs."""
    tenants = tuple(
        Tenant(name=name, work=Kernel(workload="fft" if name == "fft" else "gemm", size=64), iterations=iterations // 4)
        for name in SOLO_NS
    )
    conditions = (
        Condition(name="solo-fft", tenants=("fft",)),
        Condition(name="solo-gemm", tenants=("gemm",)),
        Condition(name="shared-fft+gemm", tenants=("fft", "gemm")),
    )
    return Plan(
        name="scale", design="interleaved", tenants=tenants, conditions=conditions, rounds=rounds, max_rounds=rounds
    )


def write_block(
    writer: RunWriter,
    block: int,
    tenant: str,
    *,
    count: int,
    begin_ns: int,
    shared: bool,
    rng: np.random.Generator,
    chunk_records: int = CHUNK_RECORDS,
    open_loop: bool = False,
) -> int:
    """Streams ``count`` records; returns when the last one ended. A shared block is filled by both. ``open_loop``: due
    some time before they are submitted."""
    factor = SHARED_SLOWER if shared else 1.0
    median_ns = (max(SOLO_NS.values()) if shared else SOLO_NS[tenant]) * factor
    for seq, first in enumerate(range(0, count, chunk_records)):
        n = min(chunk_records, count - first)
        service = (median_ns * np.exp(0.05 * rng.standard_normal(n, np.float32))).astype(np.int64)
        records = np.empty(n, RECORD)
        records["i"] = np.arange(first, first + n)
        ends = begin_ns + np.cumsum(service + 10_000)
        records["retire_ns"] = ends
        records["submit_ns"] = records["due_ns"] = ends - service
        if open_loop:
            records["due_ns"] -= (service // 8).astype(np.int64)
        records["device_ms"] = service / 1e6 * (SOLO_NS[tenant] / median_ns)
        writer.records(tenant, block, seq, records)
        begin_ns = int(ends[-1])
    return begin_ns


def write_run(
    directory: Path,
    iterations: int,
    rounds: int,
    *,
    chunk_records: int = CHUNK_RECORDS,
    open_loop: bool = False,
    keep_journal: bool = False,
) -> None:
    """A finished run directory with ``iterations`` records in all."""
    plan = make_plan(iterations, rounds)
    writer = create(
        directory,
        plan=plan,
        backend="synthetic",
        mode=SharingMode(),
        experiment_text="",
        environment={},
        overwrite=True,
        keep_journal=keep_journal,
    )
    rng = np.random.default_rng(0)
    for tenant in plan.tenants:
        writer.worker(WorkerInfo(tenant=tenant.name, pid=0, hostname="none", device=DEVICE))
    count = iterations // 4 // rounds
    now = NS_PER_S
    for round_number in range(rounds):
        for block in blocks_of_round(plan, round_number):
            shared = len(block.tenants) > 1
            ends = [
                write_block(
                    writer,
                    block.index,
                    tenant,
                    count=count,
                    begin_ns=now,
                    shared=shared,
                    rng=rng,
                    chunk_records=chunk_records,
                    open_loop=open_loop,
                )
                for tenant in block.tenants
            ]
            writer.block(
                BlockOutcome(
                    index=block.index,
                    round=round_number,
                    condition=block.condition,
                    start_ns=now,
                    end_ns=max(ends),
                    valid=True,
                    counts=dict.fromkeys(block.tenants, count),
                )
            )
            now = max(ends) + NS_PER_S
    writer.close(Outcome(kind="complete"))


def report(directory: Path) -> tuple[float, float]:
    """(wall seconds, peak memory in GB) of `kts report DIR --json`. Ends the benchmark with its error if it fails."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "kts", "report", str(directory), "--json"]
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - begin
    if done.returncode:
        sys.exit(f"report_scale: kts report ended with code {done.returncode}\n{done.stderr}")
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9


def main(argv: Sequence[str] = ()) -> None:
    """Makes the run, reports it, and prints what that took."""
    parser = argparse.ArgumentParser(prog="python -m bench report_scale")
    parser.add_argument("--iterations", type=int, default=100_000_000)
    parser.add_argument("--rounds", type=int, default=10, help="1: the largest blocks that a run can have")
    parser.add_argument("--dir", type=Path, help="where to make the run; it is kept")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="kts-scale-") as temporary:
        directory = arguments.dir or Path(temporary) / "run"
        begin = time.perf_counter()
        write_run(directory, arguments.iterations, arguments.rounds)
        seconds = time.perf_counter() - begin
        size = (directory / "records.parquet").stat().st_size / 1e9
        print(f"report_scale: made {arguments.iterations:,} iterations in {seconds:.1f} s, {size:.2f} GB")
        seconds, memory = report(directory)
        print(f"report_scale: {arguments.iterations:,} iterations reported in {seconds:.1f} s, {memory:.2f} GB at most")


if __name__ == "__main__":
    main(sys.argv[1:])
