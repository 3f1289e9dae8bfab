"""What this machine's cores did, of each tenant those that it may use: everybody's work there, interrupts, what a
hypervisor took, the hardware threads beside them, their clock; and how pressed the machine is.

Only of tenants on the machine of the conductor. The kernel counts in steps of 10 ms (/proc/stat); time in which a core
was not idle is told exactly, not by its ticks, which would miss what runs between them.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from kts.model.run import WorkerInfo
from kts.model.telemetry import Sample, SourceState
from kts.telemetry.source import SourceMissingError, by_tenant, samples_at
from kts.units import NS_PER_MS, NS_PER_S, NS_PER_US

METRICS = (
    "busy_cores",
    "irq_cores",
    "steal_cores",
    "sibling_busy_cores",
    "core_clock_mhz",
    "machine_cpu_pressure_ratio",
    "machine_io_pressure_ratio",
    "machine_memory_pressure_ratio",
)
SPAN_NS = 200 * NS_PER_MS
"""Of a sample: 20 of the kernel's steps."""
KEPT_NS = 60 * NS_PER_S
MOST_CLOCKS = 8
"""Cores whose clock is read; of more than that, none."""


_NO_SIBLINGS = "no hardware threads beside its cores: the topology shows none (a virtual machine may hide them)"
_OWN_SIBLINGS = "no hardware threads beside its cores that are not its own"
_NO_CLOCK = f"no clock of its cores: cpufreq tells none, or they are more than {MOST_CLOCKS}"
_ELSEWHERE = "not on the machine of the conductor"


class Core(NamedTuple):
    """What a core did since the machine started, ns: ran tasks, served interrupts, was the hypervisor's."""

    busy_ns: int
    irq_ns: int
    steal_ns: int


Moment = tuple[int, dict[int, Core]]
"""When, and each core."""


class CoresSource:
    """`kts.telemetry.source.Source`; asks no device. ``proc``, ``system``: given in tests."""

    name = "cores"
    remote = False

    def __init__(
        self,
        *,
        proc: Path = Path("/proc"),
        system: Path = Path("/sys/devices/system/cpu"),
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._proc, self._system, self._clock = proc, system, clock
        self._boot_id = _text(proc / "sys/kernel/random/boot_id").strip()
        self._step_ns = NS_PER_S // os.sysconf("SC_CLK_TCK")
        self._lock = threading.Lock()  # of all below: told by the driver's thread, polled by another
        self._tenants: set[str] = set()
        self._cores: dict[str, frozenset[int]] = {}
        self._siblings: dict[str, frozenset[int]] = {}
        self._clocks: dict[str, list[Path]] = {}
        self._unknown: dict[str, set[str]] = {}
        self._history: deque[Moment] = deque()
        self._pressure: tuple[int, dict[str, int]] = (0, {})
        self._since: Moment | None = None
        self._metrics: set[str] = set()

    def worker(self, info: WorkerInfo) -> None:
        """A tenant's cores are known."""
        with self._lock:
            self._tenants.add(info.tenant)
            if not self._boot_id or info.boot_id != self._boot_id:
                self._unknown.setdefault(_ELSEWHERE, set()).add(info.tenant)
                return
            if info.tenant in self._cores or not info.cores:
                return
            cores = frozenset(info.cores)
            siblings = {one for core in cores for one in self._siblings_of(core)}
            self._cores[info.tenant], self._siblings[info.tenant] = cores, frozenset(siblings - cores)
            self._clocks[info.tenant] = self._readable_clocks(cores)
            if siblings <= cores:
                alone = all(len(self._siblings_of(core)) == 1 for core in cores)
                self._unknown.setdefault(_NO_SIBLINGS if alone else _OWN_SIBLINGS, set()).add(info.tenant)
            if not self._clocks[info.tenant]:
                self._unknown.setdefault(_NO_CLOCK, set()).add(info.tenant)

    def open(self, uuid: str) -> SourceState:
        """See Source. SourceMissingError where the kernel tells of no core."""
        del uuid
        with self._lock:
            self._since = self._look()
            if not self._since[1]:
                raise SourceMissingError("the kernel does not tell what its cores do (/proc/stat)")
            self._history.append(self._since)
            self._pressure = self._clock(), self._read_pressure()
        return SourceState(source=self.name, metrics=METRICS)

    def sample(self) -> list[Sample]:
        """See Source. A sample covers at least `SPAN_NS`."""
        now = self._look()
        with self._lock:
            self._history.append(now)
            while now[0] - self._history[0][0] > KEPT_NS:
                self._history.popleft()
            assert self._since is not None
            if now[0] - self._since[0] < SPAN_NS:
                return []
            since, self._since = self._since, now
            samples = self._of_machine()
            for tenant in self._cores:
                samples += self._of(tenant, since, now)
            self._metrics |= {sample.metric for sample in samples}
            return samples

    def busy_cores(self, tenant: str, begin_ns: int, end_ns: int) -> float | None:
        """The mean number of the tenant's cores that ran tasks in that time, whoever's; None where that is not known,
        or not yet."""
        with self._lock:
            cores = self._cores.get(tenant)
            first, last = (self._busy_at(cores, t_ns) for t_ns in (begin_ns, end_ns)) if cores else (None, None)
        return None if first is None or last is None else (last - first) / (end_ns - begin_ns)

    def state(self) -> SourceState:
        """See Source."""
        with self._lock:
            note = by_tenant(self._unknown, self._tenants)
            if not self._metrics:
                return SourceState(source=self.name, missing=note or "no tenant's cores are known")
            metrics = tuple(metric for metric in METRICS if metric in self._metrics)
            return SourceState(source=self.name, metrics=metrics, note=note)

    def close(self) -> None:
        """See Source."""
        with self._lock:
            self._history.clear()

    def _look(self) -> Moment:
        return self._clock(), dict(_cores(_text(self._proc / "stat"), self._step_ns, self._clock()))

    def _busy_at(self, cores: frozenset[int], t_ns: int) -> float | None:
        """CPU time of tasks on ``cores`` until then, between two looks."""
        at = bisect_right(self._history, t_ns, key=lambda moment: moment[0])
        if not 0 < at < len(self._history):
            return None
        (before_ns, before), (after_ns, after) = self._history[at - 1], self._history[at]
        if not cores <= before.keys() & after.keys():
            return None
        busy_ns = sum(before[core].busy_ns for core in cores)
        more_ns = sum(after[core].busy_ns for core in cores) - busy_ns
        return busy_ns + more_ns * (t_ns - before_ns) / (after_ns - before_ns)

    def _of(self, tenant: str, since: Moment, now: Moment) -> list[Sample]:
        span_ns = now[0] - since[0]
        values: dict[str, float] = {}
        if self._cores[tenant] <= since[1].keys() & now[1].keys():
            busy, irq, steal = _grown(self._cores[tenant], since[1], now[1])
            values |= {"busy_cores": busy / span_ns, "irq_cores": irq / span_ns, "steal_cores": steal / span_ns}
        siblings = self._siblings[tenant]
        if siblings and siblings <= since[1].keys() & now[1].keys():
            values["sibling_busy_cores"] = _grown(siblings, since[1], now[1])[0] / span_ns
        of_tenant = samples_at(now[0], span_ns, source=self.name, scope="tenant", subject=tenant, values=values)
        if clocks := [int(text) / 1000 for path in self._clocks[tenant] if (text := _text(path).strip()).isdecimal()]:
            mhz = {"core_clock_mhz": sum(clocks) / len(clocks)}
            of_tenant += samples_at(now[0], 0, source=self.name, scope="tenant", subject=tenant, values=mhz)
        return of_tenant

    def _of_machine(self) -> list[Sample]:
        """Pressure of the whole machine: the same for all tenants on it."""
        (since_ns, before), now_ns = self._pressure, self._clock()
        told = self._read_pressure()
        self._pressure = now_ns, told
        span_ns = now_ns - since_ns
        values = {metric: (told[metric] - before[metric]) / span_ns for metric in told.keys() & before.keys()}
        return [
            sample
            for tenant in self._cores
            for sample in samples_at(now_ns, span_ns, source=self.name, scope="tenant", subject=tenant, values=values)
        ]

    def _read_pressure(self) -> dict[str, int]:
        """Metric to ns in which some task of the machine waited for it."""
        found = {}
        for what in ("cpu", "io", "memory"):
            for line in _text(self._proc / "pressure" / what).splitlines():
                total = line.rpartition("total=")[2]
                if line.startswith("some ") and total.isdecimal():
                    found[f"machine_{what}_pressure_ratio"] = int(total) * NS_PER_US
        return found

    def _siblings_of(self, core: int) -> frozenset[int]:
        """All hardware threads of its core, itself included."""
        return _listed(_text(self._system / f"cpu{core}/topology/thread_siblings_list")) | {core}

    def _readable_clocks(self, cores: frozenset[int]) -> list[Path]:
        paths = [self._system / f"cpu{core}/cpufreq/scaling_cur_freq" for core in sorted(cores)]
        return paths if len(paths) <= MOST_CLOCKS and all(_text(path).strip().isdecimal() for path in paths) else []


def _cores(stat: str, step_ns: int, now_ns: int) -> Mapping[int, Core]:
    """Of each line of /proc/stat. Busy is what is neither idle, nor an interrupt, nor the hypervisor's."""
    found = {}
    for line in stat.splitlines():
        name, *told = line.split()
        if name.startswith("cpu") and name[3:].isdecimal():
            with contextlib.suppress(ValueError):
                _, _, _, idle, waiting, irq, soft, steal, *_ = (int(one) * step_ns for one in told)
                found[int(name[3:])] = Core(now_ns - idle - waiting - irq - soft - steal, irq + soft, steal)
    return found


def _grown(cores: frozenset[int], before: Mapping[int, Core], now: Mapping[int, Core]) -> tuple[int, ...]:
    """Sums over ``cores``; never below 0: the kernel takes back some idle time now and then."""
    return tuple(max(0, sum(now[core][what] - before[core][what] for core in cores)) for what in range(3))


def _listed(text: str) -> frozenset[int]:
    """Core numbers of a list such as ``0-3,8``; empty where it is none."""
    found: set[int] = set()
    with contextlib.suppress(ValueError):
        for part in text.strip().split(","):
            first, _, last = part.partition("-")
            found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
