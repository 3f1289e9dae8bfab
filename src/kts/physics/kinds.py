"""Kinds of tenants, told from their profile alone: each kind has a model error of its own."""

from __future__ import annotations

from typing import Literal

import numpy as np

from kts.physics.alone import service_ms
from kts.physics.profiling import BUSY
from kts.physics.values import Profile

Kind = Literal["gpu", "graph", "short", "eager", "trips"]
KINDS: tuple[Kind, ...] = ("gpu", "short", "graph", "eager")
"""Those that the model error was fitted to. For others `kts.physics.forecast.ModelError.relative` stands."""

MANY = 10
"""From so many launches on, an iteration has host time between its kernels, and may lose its turn there."""


def kind_of(profile: Profile) -> Kind:
    """``trips``: the host waits in the middle. ``graph``: a replayed CUDA graph. ``gpu``: kernels are `BUSY` of an
    iteration alone or more. Of the rest, whose iteration is host time: ``eager`` with `MANY` launches or more, else
    ``short``. Medians over the iterations."""
    them = profile.iterations
    if them.wait_ms is not None and np.median(np.add.reduceat(~np.isnan(them.wait_ms), them.first[:-1])) >= 1:
        return "trips"
    if profile.settles_next:
        return "graph"
    if host_share(profile) <= 1 - BUSY:
        return "gpu"
    return "eager" if float(np.median(np.diff(them.first))) >= MANY else "short"


def host_share(profile: Profile) -> float:
    """How much of an iteration alone its kernels do not take, 0 to 1: what a slower host makes longer."""
    them = profile.iterations
    whole = float(np.median(service_ms(them)))
    return max(1 - float(np.median(them.busy_ms)) / whole, 0.0) if whole > 0 else 0.0
