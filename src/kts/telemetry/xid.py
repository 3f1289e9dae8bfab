"""Xid errors of the GPU, as NVML tells them to whoever asked before they happen: of the device, whoever caused them.

Each is a sample of the time since the look before, in which it happened; its value is the number that NVIDIA's table of
Xid errors explains.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from kts.model.telemetry import Sample, SourceState
from kts.telemetry.nvml import NvmlBacked
from kts.telemetry.source import SourceMissingError, samples_at

METRIC = "xid_code"
MOST_AT_ONCE = 100
"""Of one look: a GPU that fails may tell without end."""


class XidSource(NvmlBacked):
    """`kts.telemetry.source.Source`."""

    name = "nvml-xid"

    def __init__(self, nvml: Any = None, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        super().__init__(nvml, clock=clock)
        self._events: Any = None
        self._seen: dict[int, int] = {}  # how often
        self._looked_ns: int | None = None

    def open(self, uuid: str) -> SourceState:
        """See Source."""
        nvml = self._open_device(uuid)
        try:
            self._events = nvml.nvmlEventSetCreate()
            nvml.nvmlDeviceRegisterEvents(self._handle, nvml.nvmlEventTypeXidCriticalError, self._events)
        except (nvml.NVMLError, AttributeError) as error:
            self.close()
            raise SourceMissingError(f"NVML tells no Xid errors of {uuid}: {error}") from error
        self._looked_ns = self._clock()
        return self.state()

    def sample(self) -> list[Sample]:
        """See Source."""
        nvml, found, now_ns = self._nvml, [], self._clock()
        since_ns, self._looked_ns = now_ns if self._looked_ns is None else self._looked_ns, now_ns
        for _ in range(MOST_AT_ONCE):
            try:
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
            except nvml.NVMLError as error:
                if error.value == nvml.NVML_ERROR_TIMEOUT:
                    break
                raise SourceMissingError(f"NVML's Xid errors stopped: {error}") from error
            if event.eventType != nvml.nvmlEventTypeXidCriticalError:
                continue
            number = int(event.eventData)
            self._seen[number] = self._seen.get(number, 0) + 1
            told = {METRIC: float(number)}
            found += samples_at(
                now_ns, now_ns - since_ns, source=self.name, scope="device", subject=self._uuid, values=told
            )
        return found

    def state(self) -> SourceState:
        """See Source."""
        seen = ", ".join(f"{number} ({often}x)" for number, often in sorted(self._seen.items()))
        return SourceState(source=self.name, metrics=(METRIC,), note=f"the GPU told Xid {seen}" if seen else "")

    def close(self) -> None:
        """See Source."""
        events, self._events = self._events, None
        if events is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlEventSetFree(events)
        super().close()
