"""Can the conductor keep what four fast tenants send? Synthetic tenants speak the real protocol through the real
driver into the real store: first at 5,000 iterations/s each, then as fast as the connection takes it.

    python -m bench ingest --seconds 10
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kts.arrivals import Closed
from kts.backends.local import LocalBackend
from kts.conduct.driver import conduct
from kts.conduct.ports import Progress
from kts.model.mode import SharingMode
from kts.model.plan import Condition, DeviceChoice, Kernel, Plan, Tenant
from kts.model.records import RECORD
from kts.model.run import DeviceInfo
from kts.store import create, open_run
from kts.units import NS_PER_S, s_to_ns
from kts.wire.framing import CHUNK_RECORDS
from kts.wire.messages import Ready, Start
from kts.worker.loop import LeftOut, Outlet
from kts.worker.prepare import prepare
from kts.worker.session import join

TENANTS = ("a", "b", "c", "d")
RATE_PER_S = 5000
PULSE_S = 0.1
_RATE = "KTS_BENCH_RATE"  # iterations per second of each tenant; 0: no limit
_SENT = "records sent: "


class Synthetic:
    """A `kts.worker.session.Program` that makes records up, at a given rate."""

    in_thread = True
    container = None

    def __init__(self, tenant: Tenant, device: DeviceChoice) -> None:
        del tenant, device
        self._rate = int(os.environ[_RATE])

    def open(self) -> DeviceInfo:
        """A device that is none."""
        return DeviceInfo(kind="other", uuid="none", name="none", label="no device", library="none")

    def calibrate(self, pulse: Callable[[], None], size: int | None = None) -> Ready:
        """Nothing to do."""
        del size
        pulse()
        return Ready(size=None, solo_ms=0.2)

    def run(self, start: Start, outlet: Outlet) -> LeftOut:
        """Sends made-up records until the quota's time is over, and prints how many."""
        end_ns = start.start_ns + s_to_ns(start.quota.seconds or 0.0)
        sent, next_pulse_ns = 0, 0
        while (now_ns := time.monotonic_ns()) < end_ns and not outlet.stopped():
            if now_ns >= next_pulse_ns:
                outlet.heartbeat(now_ns, sent)
                next_pulse_ns = now_ns + s_to_ns(PULSE_S)
            due = CHUNK_RECORDS
            if self._rate:
                due = min((now_ns - start.start_ns) * self._rate // NS_PER_S - sent, CHUNK_RECORDS)
            if due > 0:
                records = np.zeros(due, dtype=RECORD)
                records["i"] = np.arange(sent, sent + due)
                records["due_ns"] = records["submit_ns"] = now_ns
                records["retire_ns"] = now_ns + 200_000
                outlet.records(records)
                sent += due
            if self._rate:
                time.sleep(PULSE_S)
        print(f"{_SENT}{sent}", flush=True)
        return LeftOut()

    def close(self) -> None:
        """Nothing is open."""


class _Silent:
    def progress(self, progress: Progress) -> None:
        """Nobody looks."""


def _plan(seconds: float) -> Plan:
    work = Kernel(workload="fft", size=1)
    tenants = tuple(Tenant(name=name, work=work, arrivals=Closed(), seconds=seconds) for name in TENANTS)
    shared = Condition(name="shared", tenants=TENANTS)
    return Plan(
        name="ingest", design="classic", tenants=tenants, conditions=(shared,), rounds=1, max_rounds=1, device="cpu"
    )


def measure(rate: int, seconds: float, directory: Path) -> tuple[dict[str, int], dict[str, int], float]:
    """Records sent and found in the run directory, by tenant, and the conductor's CPU seconds per second."""
    os.environ[_RATE] = str(rate)
    plan = _plan(seconds)
    writer = create(directory, plan=plan, backend="local", mode=SharingMode(), experiment_text="", environment={})
    logs = directory / "logs"
    backend = LocalBackend(logs, worker=("-m", "bench.ingest", "--tenant"))
    cpu_s = time.process_time()
    outcome = conduct(plan, backend, writer, _Silent(), None)
    cpu_s = time.process_time() - cpu_s
    if outcome.kind != "complete":
        raise SystemExit(f"error: {outcome.reason}")
    run = open_run(directory)
    found = {name: sum(len(run.records(name, block.index)) for block in run.blocks) for name in TENANTS}
    sent = {name: int((logs / f"{name}.log").read_text().rpartition(_SENT)[2]) for name in TENANTS}
    return sent, found, cpu_s / seconds


def main(argv: Sequence[str] = ()) -> None:
    """Prints what was sent, what arrived, and what it cost. Ends with an error if a record was lost."""
    parser = argparse.ArgumentParser(prog="python -m bench ingest")
    parser.add_argument("--seconds", type=float, default=10.0, help="at the fixed rate; a fifth of it at no limit")
    seconds = parser.parse_args(argv).seconds
    print(f"{'rate/tenant':>12} {'sent/s':>10} {'sent':>10} {'received':>10} {'lost':>6} {'CPU, store too':>14}")
    with tempfile.TemporaryDirectory() as folder:
        for rate, duration in ((RATE_PER_S, seconds), (0, seconds / 5)):
            sent, found, cpu = measure(rate, duration, Path(folder) / f"rate-{rate}")
            total, received = sum(sent.values()), sum(found.values())
            name = str(rate) if rate else "unlimited"
            print(f"{name:>12} {total / duration:>10.0f} {total:>10} {received:>10} {total - received:>6} {cpu:>13.1%}")
            if sent != found:
                raise SystemExit(f"error: records were lost: sent {sent}, received {found}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--tenant"]:
        prepare(os.environ)
        raise SystemExit(join(os.environ, Synthetic))
    main(sys.argv[1:])
