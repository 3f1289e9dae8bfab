"""NVML's utilisation per process: tenant-scoped, where its process numbers are known to be the tenants'.

NVML may number processes as another pid namespace does (containers, pods), where a number that looks like a tenant's
can be a stranger's. So it is believed only once the GPU's list of computing processes numbers them as this one does
(`ancestry.same_numbers`). Then all others in that list are uninvited, and what they used is told of the device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kts.model.telemetry import Sample, SourceState
from kts.telemetry.ancestry import PROC, command, line_of, same_numbers
from kts.telemetry.nvml import NvmlBacked
from kts.telemetry.source import SEVERAL, SourceMissingError, samples_at
from kts.units import NS_PER_S, NS_PER_US
from kts.worker.sharing import MPS_SERVER

METRICS = ("process_sm_ratio", "process_memory_ratio")
OTHERS = ("others_sm_ratio", "others_memory_ratio")
"""Of the device: what processes that are no tenant's used, together."""
_OTHERS = ""
LONGEST_NS = 2 * NS_PER_S
"""NVML's sample period is at most 1 s; a longer gap is a pause, not a span."""


class ProcessSource(NvmlBacked):
    """`kts.telemetry.source.Source`. ``tenants``: pid to name of those in this pid namespace, as known now."""

    name = "nvml-process"

    def __init__(
        self,
        tenants: Callable[[], Mapping[int, str]],
        nvml: Any = None,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        realtime: Callable[[], int] = time.time_ns,
        proc: Path = PROC,
    ) -> None:
        super().__init__(nvml, clock=clock)
        self._tenants = tenants
        self._realtime = realtime
        self._proc = proc
        self._last_us = 0
        self._last_ns: dict[str, int] = {}
        self._matched: frozenset[int] = frozenset()
        self._listed = 0
        self._gave = False

    def open(self, uuid: str) -> SourceState:
        """See Source."""
        self._open_device(uuid)
        self._last_us = self._realtime() // NS_PER_US
        try:
            self._new_samples()
        except self._nvml.NVMLError as error:
            self.close()
            raise SourceMissingError(f"NVML gives no utilisation per process: {error}") from error
        return SourceState(source=self.name, metrics=METRICS + OTHERS)

    def sample(self) -> list[Sample]:
        """See Source. A tenant that is not in a batch that NVML made had no utilisation in it."""
        tenants = dict(self._tenants())
        try:
            if not self._known(tenants):
                return []
            latest = {s.pid: s for s in sorted(self._new_samples(), key=lambda s: s.timeStamp)}
        except self._nvml.NVMLError as error:
            raise SourceMissingError(f"NVML's utilisation per process stopped: {error}") from error
        if not latest:
            return []
        self._last_us = newest_us = max(s.timeStamp for s in latest.values())
        used: dict[str, list[Any]] = {name: [] for name in (*tenants.values(), _OTHERS)}
        for pid, one in latest.items():
            if (name := self._whose(pid, tenants)) is not None:
                used[name].append(one)
        samples: list[Sample] = []
        used.pop(SEVERAL, None)
        for name, of in used.items():
            t_ns = self._monotonic_ns(max((one.timeStamp for one in of), default=newest_us))
            samples += self._of(name, t_ns, (sum(one.smUtil for one in of), sum(one.memUtil for one in of)))
        self._gave = self._gave or bool(samples)
        return samples

    def _whose(self, pid: int, tenants: Mapping[int, str]) -> str | None:
        """The tenant from whose worker it descends, `_OTHERS`, or None: of a server that computes for everybody."""
        for one in line_of(pid, self._proc):
            if one in tenants:
                return tenants[one]
        return None if command(pid, self._proc).startswith(MPS_SERVER) else _OTHERS

    def _known(self, tenants: Mapping[int, str]) -> bool:
        """True once NVML's numbers are known to be these; asked again when there is a new tenant."""
        if not tenants or self._matched >= tenants.keys():
            return bool(tenants)
        listed = [process.pid for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)]
        self._listed = len(listed)
        if same_numbers(listed, tenants, self._proc):
            self._matched = frozenset(tenants)
        return self._matched >= tenants.keys()

    def _new_samples(self) -> list[Any]:
        """Empty where there is nothing new, which NVML reports as an error."""
        nvml = self._nvml
        try:
            return list(nvml.nvmlDeviceGetProcessUtilization(self._handle, self._last_us))
        except nvml.NVMLError as error:
            if error.value in {nvml.NVML_SUCCESS, nvml.NVML_ERROR_NOT_FOUND}:
                return []
            raise

    def _monotonic_ns(self, stamp_us: int) -> int:
        """NVML stamps with CLOCK_REALTIME; a stamp of another clock is taken as now."""
        now_ns, ago_ns = self._clock(), self._realtime() - stamp_us * NS_PER_US
        return now_ns - ago_ns if 0 <= ago_ns <= LONGEST_NS else now_ns

    def _of(self, name: str, t_ns: int, percents: tuple[int, int]) -> list[Sample]:
        span_ns = t_ns - self._last_ns.get(name, t_ns)
        self._last_ns[name] = t_ns
        if not 0 < span_ns <= LONGEST_NS:
            return []  # the first, or after a pause: what it covers is not known
        values = [percent / 100 for percent in percents]
        if name == _OTHERS:
            told = dict(zip(OTHERS, values, strict=True))
            return samples_at(t_ns, span_ns, source=self.name, scope="device", subject=self._uuid, values=told)
        told = dict(zip(METRICS, values, strict=True))
        return samples_at(t_ns, span_ns, source=self.name, scope="tenant", subject=name, values=told)

    def state(self) -> SourceState:
        """See Source."""
        if self._gave:
            return SourceState(source=self.name, metrics=METRICS + OTHERS)
        tenants = self._tenants()
        if not tenants:
            why = (
                "the tenants are in other pid namespaces (pods), where NVML's process numbers cannot be matched to them"
            )
        elif not self._matched:
            why = (
                f"no tenant is in NVML's list of {self._listed} computing processes, or another that is not here: "
                "it numbers them as another pid namespace does, or no tenant computes"
            )
        else:
            why = "NVML gave no sample in this time"
        return SourceState(source=self.name, missing=why)
