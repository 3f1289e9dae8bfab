"""Samples taken beside the measuring, off its cores: NVML, NVML GPM, dcgm-exporter, the kernel's scheduler.

`Sampler` is what a run uses; `probe` tells what is here. Names are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kts.telemetry.choice import Reading, make_sampler, probe
    from kts.telemetry.sampler import Sampler

__all__ = ["Reading", "Sampler", "make_sampler", "probe"]

_HOME = {
    "Reading": "choice",
    "Sampler": "sampler",
    "make_sampler": "choice",
    "probe": "choice",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
