"""Traces of a CUDA device through torch's profiler (Kineto, over CUPTI)."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import torch

from kts.worker.traced import MARK, Event


class TorchTracer:
    """Implements `kts.worker.devices.Tracer`.

    Kineto gives a call of the CUDA API and what it made the GPU do the same correlation id, CUPTI's. Operators of
    torch have ids of another series, which may be equal by chance.
    """

    name = f"torch {torch.__version__} profiler"

    def __init__(self) -> None:
        os.environ["TEARDOWN_CUPTI"] = "0"  # torch itself: "CUDA Graph does not work well with CUPTI teardown"
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        self._profile = torch.profiler.profile(activities=activities)

    def __enter__(self) -> TorchTracer:
        self._profile.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._profile.__exit__(kind, error, tb)

    def mark(self) -> AbstractContextManager[Any]:
        """A span of the CPU's time line."""
        span: AbstractContextManager[Any] = torch.profiler.record_function(MARK)
        return span

    def events(self) -> list[Event]:
        """Every event, as Kineto has it: torch's own lists of events leave out the clock and the calls' ids."""
        return [
            Event(
                name=event.name(),
                on_device=event.device_type() == torch.autograd.DeviceType.CUDA,
                start_ns=event.start_ns(),
                end_ns=event.start_ns() + event.duration_ns(),
                correlation=event.correlation_id(),
            )
            for event in self._profile.profiler.kineto_results.events()
        ]
