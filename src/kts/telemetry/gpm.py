"""NVML GPM: what the SMs and the memory did between two readings. Device-scoped; Hopper and later.

NVML refreshes its counters about every 100 ms and asks for more than that between two readings (note to
`nvmlGpmMetricsGet` in NVIDIA's NVML reference), so a sampler that polls every 100 ms gets a value every other time.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

from kts.model.telemetry import Sample, SourceState
from kts.telemetry.nvml import NvmlBacked
from kts.telemetry.source import SourceMissingError, samples_at
from kts.units import NS_PER_MS

METRICS = {
    "graphics_active_ratio": "NVML_GPM_METRIC_GRAPHICS_UTIL",
    "sm_active_ratio": "NVML_GPM_METRIC_SM_UTIL",
    "sm_occupancy_ratio": "NVML_GPM_METRIC_SM_OCCUPANCY",
    "tensor_active_ratio": "NVML_GPM_METRIC_ANY_TENSOR_UTIL",
    "dram_active_ratio": "NVML_GPM_METRIC_DRAM_BW_UTIL",
}
"""Our name to NVML's. NVML gives percents."""

SHORTEST_NS = 150 * NS_PER_MS
MOST_FAILURES = 10
"""In a row, before the source is given up."""


class GpmSource(NvmlBacked):
    """`kts.telemetry.source.Source`."""

    name = "gpm"

    def __init__(self, nvml: Any = None, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        super().__init__(nvml, clock=clock)
        self._metrics: dict[str, int] = {}
        self._buffers: list[Any] = []
        self._request: Any = None
        self._before_ns = 0
        self._failures = 0

    def open(self, uuid: str) -> SourceState:
        """See Source. Which metrics the GPU really gives shows with the first sample."""
        nvml = self._open_device(uuid)
        try:
            if not nvml.nvmlGpmQueryDeviceSupport(self._handle).isSupportedDevice:
                raise SourceMissingError("this GPU has no GPM (Hopper and later have)")
            for _ in range(2):
                self._buffers.append(nvml.nvmlGpmSampleAlloc())
            nvml.nvmlGpmSampleGet(self._handle, self._buffers[0])
        except nvml.NVMLError as error:
            self.close()
            raise SourceMissingError(f"NVML gives no GPM of {uuid}: {error}") from error
        except SourceMissingError:
            self.close()
            raise
        self._before_ns = self._clock()
        self._metrics = {name: getattr(nvml, theirs) for name, theirs in METRICS.items()}
        self._request = nvml.c_nvmlGpmMetricsGet_t()
        return self.state()

    def sample(self) -> list[Sample]:
        """See Source. Each sample covers the time since the one before."""
        if self._clock() - self._before_ns < SHORTEST_NS:
            return []
        before, after = self._buffers
        try:
            self._nvml.nvmlGpmSampleGet(self._handle, after)
            t_ns = self._clock()
            values = self._between(before, after)
        except self._nvml.NVMLError as error:
            self._failures += 1
            if self._failures >= MOST_FAILURES:
                raise SourceMissingError(f"GPM stopped answering: {error}") from error
            return []
        self._failures = 0
        span_ns, self._before_ns = t_ns - self._before_ns, t_ns
        self._buffers.reverse()
        return samples_at(t_ns, span_ns, source=self.name, scope="device", subject=self._uuid, values=values)

    def _between(self, before: Any, after: Any) -> dict[str, float]:
        """The metrics between two readings; one that the GPU refuses is not asked for again."""
        request, nvml = self._request, self._nvml
        request.version = nvml.NVML_GPM_METRICS_GET_VERSION
        request.numMetrics = len(self._metrics)
        request.sample1, request.sample2 = before, after
        for place, number in enumerate(self._metrics.values()):
            request.metrics[place].metricId = number
        nvml.nvmlGpmMetricsGet(request)
        values, refused = {}, 0
        for place, metric in enumerate(tuple(self._metrics)):
            found = request.metrics[place]
            if found.nvmlReturn != nvml.NVML_SUCCESS:
                refused = found.nvmlReturn
                del self._metrics[metric]
            elif math.isfinite(found.value):
                values[metric] = found.value / 100
        if not self._metrics:
            raise SourceMissingError(f"the GPU gives none of its GPM metrics: {nvml.NVMLError(refused)}")
        return values

    def state(self) -> SourceState:
        """See Source."""
        refused = [name for name in METRICS if name not in self._metrics]
        note = f"not given by this GPU: {', '.join(refused)}" if refused else ""
        return SourceState(source=self.name, metrics=tuple(self._metrics), note=note)

    def close(self) -> None:
        """See Source."""
        for buffer in self._buffers:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlGpmSampleFree(buffer)
        self._buffers.clear()
        super().close()
