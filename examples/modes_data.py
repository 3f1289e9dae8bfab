"""What `10_modes.py` needs around its runs: the plan of a crowd, the GPU's memory meanwhile, one file to carry home."""

from __future__ import annotations

import contextlib
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from kts.model.mode import MPS
from kts.model.plan import Condition, InMode, Plan
from kts.model.run import RunInfo
from kts.telemetry.nvml import load_nvml
from kts.telemetry.source import SourceMissingError

PAIRS = 2
"""Mixes of two tenants that are pooled: one alone would hold few iterations."""
POLL_S = 0.5


def groups(counts: Sequence[int]) -> list[tuple[int, int]]:
    """(first, last) tenant of each mix but the full house, which is always there."""
    most = max(counts)
    found = [(1, n) for n in counts if 2 < n < most]
    pairs = range(0, 2 * PAIRS, 2) if 2 in counts and most > 2 * PAIRS else range(0, 2 * (2 in counts and most > 2), 2)
    return [*((first + 1, first + 2) for first in pairs), *found]


def with_solos(plan: Plan, count: int) -> Plan:
    """With solo blocks of the first tenants alone: all are alike."""
    kept = [one for one in plan.conditions if one.is_solo][:count]
    return replace(plan, conditions=(*kept, *(one for one in plan.conditions if not one.is_solo)))


def limited(plan: Plan, kind: str, most: int) -> Plan:
    """With at most so many tenants in the modes of that kind; the full house is then of these."""
    gone: set[str] = set()
    conditions = {one.name: one for one in plan.conditions}
    arms: list[InMode] = []
    for arm in plan.modes:
        if arm.mode.kind == kind and len(arm.tenants) > most:
            kept = dict(list(arm.tenants.items())[:most])
            gone |= set(arm.tenants.values()) - set(kept.values())
            arm = replace(arm, tenants=kept)  # noqa: PLW2901
            for name in arm.mixes.values():
                conditions[name] = Condition(
                    name=name, tenants=tuple(t for t in conditions[name].tenants if t not in gone)
                )
        arms.append(arm)
    return replace(
        plan,
        tenants=tuple(one for one in plan.tenants if one.name not in gone),
        conditions=tuple(conditions.values()),
        modes=tuple(arms),
    )


class GpuMemory(threading.Thread):
    """Asks NVML, until it is left, how much of the GPU's memory is taken: in all, and by each process, at most."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before_bytes = self.most_bytes = 0
        self.by_pid: dict[int, int] = {}
        self.missing = ""
        self._over = threading.Event()

    def __enter__(self) -> GpuMemory:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """Until it is left, or NVML fails."""
        try:
            nvml = load_nvml()
            nvml.nvmlInit()
        except SourceMissingError as error:
            self.missing = str(error)
            return
        except Exception as error:  # NVML without a driver: of no GPU there is no memory
            self.missing = f"NVML does not start here: {error}"
            return
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(0)
            self.before_bytes = int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
            while not self._over.wait(POLL_S):
                self._look(nvml, handle)
        except nvml.NVMLError as error:
            self.missing = f"NVML tells no memory: {error}"
        finally:
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlShutdown()

    def _look(self, nvml: Any, handle: Any) -> None:
        self.most_bytes = max(self.most_bytes, int(nvml.nvmlDeviceGetMemoryInfo(handle).used))
        for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetMPSComputeRunningProcesses):
            with contextlib.suppress(nvml.NVMLError):
                for one in ask(handle):
                    self.by_pid[one.pid] = max(self.by_pid.get(one.pid, 0), int(one.usedGpuMemory or 0))

    def told(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "before_bytes": self.before_bytes,
            "most_bytes": self.most_bytes,
            "by_pid": {str(pid): size for pid, size in self.by_pid.items()},
            "missing": self.missing,
        }


def memory_of(info: RunInfo, told: Mapping[str, Any]) -> dict[str, dict[int, int]]:
    """By mode and number of tenants, what the processes of these took; under MPS with the processes that are no
    tenant's, which are its server's. Of tenants in one process there is one figure, of all. Empty where NVML tells no
    process's."""
    sizes = {int(pid): size for pid, size in told.get("by_pid", {}).items() if size}
    pid_of = {worker.tenant: worker.pid for worker in info.workers}
    server = sum(size for pid, size in sizes.items() if pid not in pid_of.values())
    found: dict[str, dict[int, int]] = {}
    for arm in info.plan.modes:
        for name in arm.mixes.values():
            tenants = info.plan.condition(name).tenants
            pids = {pid_of.get(tenant, 0) for tenant in tenants}
            whole = len(tenants) == len(arm.tenants) or len(pids) == len(tenants)
            if whole and pids <= sizes.keys():
                size = sum(sizes[pid] for pid in pids) + (server if arm.mode.kind == MPS else 0)
                found.setdefault(arm.mode.name, {})[len(tenants)] = size
    return found


def pack(folder: Path, name: str) -> Path:
    """Puts all that is in the folder into one file there, and leaves nothing else."""
    with tempfile.TemporaryDirectory() as scratch:
        packed = Path(scratch) / "packed.tar.gz"
        with tarfile.open(packed, "w:gz") as tar:
            for entry in sorted(folder.iterdir()):
                tar.add(entry, entry.name)
        for entry in folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        return Path(shutil.move(packed, folder / f"{name}.tar.gz"))


@contextlib.contextmanager
def unpacked(where: Path) -> Iterator[Path]:
    """A folder as it is; a packed one, or one that holds nothing but packed ones, unpacked for a while."""
    files = [where] if where.is_file() else sorted(where.glob("*.tar.?z"))
    if not files:
        yield where
        return
    with tempfile.TemporaryDirectory() as scratch:
        for file in files:
            with tarfile.open(file) as tar:
                tar.extractall(scratch, filter="data")
        yield Path(scratch)
