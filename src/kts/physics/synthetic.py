"""Synthetic pairs for `kts.physics.selfcheck`: experiments whose tenants and GPU are known exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

from kts.arrivals import cycle_ms
from kts.model.plan import Plan
from kts.physics.simulate import SharingModel
from kts.physics.values import Iterations, bursts
from kts.plan import build
from kts.spec.models import Experiment

if TYPE_CHECKING:
    from kts.model.plan import Tenant

SHARING = SharingModel(slice_ms=2.05, preempt_ms=(0.2,), yield_ms=(0.15,), wake_ms=(0.15,))
"""As H200s share in default time-slicing (docs/physics.md)."""
HOST_BEFORE_MS, HOST_AFTER_MS = 0.03, 0.02


@dataclass(frozen=True)
class SyntheticKernel:
    """GPU time of one iteration: ``ms`` times a lognormal of ``spread``, and with probability ``hiccups`` an
    exponential of mean ``hiccup_ms`` more. Iterations are independent.

    It comes in ``trips`` equal parts: the host waits for each and goes on ``between_ms`` later.
    """

    ms: float
    spread: float = 0.01
    hiccups: float = 0.02
    hiccup_ms: float = 0.15
    trips: int = 1
    between_ms: float = 0.0

    @property
    def service_ms(self) -> float:
        """Mean service time alone."""
        return (
            self.ms * float(np.exp(self.spread**2 / 2))
            + self.hiccups * self.hiccup_ms
            + HOST_BEFORE_MS
            + HOST_AFTER_MS
            + (self.trips - 1) * (HOST_AFTER_MS + self.between_ms)
        )

    def draw(self, n: int, rng: np.random.Generator) -> Iterations:
        """``n`` iterations of one launch per trip; with the same seed more of them begin with the same ones."""
        u = rng.random((n, 3))
        duration = self.ms * np.exp(self.spread * ndtri(u[:, 0]))
        duration += np.where(u[:, 1] < self.hiccups, -self.hiccup_ms * np.log1p(-u[:, 2]), 0.0)
        if self.trips == 1:
            return bursts(duration, HOST_AFTER_MS, HOST_BEFORE_MS)
        offset = np.tile(HOST_BEFORE_MS + self.between_ms * np.arange(self.trips), n)
        last = np.tile(np.arange(self.trips) == self.trips - 1, n)
        return Iterations(
            first=np.arange(n + 1, dtype=np.int64) * self.trips,
            offset_ms=offset,
            duration_ms=np.repeat(duration / self.trips, self.trips),
            retire_ms=np.full(n, HOST_AFTER_MS),
            wait_ms=np.where(last, np.nan, offset),
            notice_ms=np.full(len(offset), HOST_AFTER_MS),
        )


@dataclass(frozen=True)
class TenantPair:
    """Two tenants as an experiment file would have them, and the kernel that each runs.

    ``tenants``: the file's entries; ``settings``: its other keys. ``quick``: part of the short check.
    """

    name: str
    tenants: Mapping[str, Mapping[str, Any]]
    kernels: Mapping[str, SyntheticKernel]
    settings: Mapping[str, Any]
    quick: bool = False

    def plan(self, seed: int) -> Plan:
        """The frozen plan of a run with that seed."""
        file = {"name": "selfcheck", "seed": seed, **self.settings, "tenants": self.tenants}
        return build(Experiment.model_validate(file))

    def cycle_ms(self, tenant: Tenant) -> float:
        """Mean time from one of its iterations to the next, alone."""
        return cycle_ms(tenant.arrivals, self.kernels[tenant.name].service_ms)


FFT = SyntheticKernel(3.55)
GEMM = SyntheticKernel(20.65)
FFT_PACED = {"workload": "fft", "target_ms": 3.6, "think_ms": 100, "iterations": 800}
FEW = {"rounds": 10, "max_rounds": 20}


def _beside_gemm(think_s: float, iterations: int, *, quick: bool = False, **settings: Any) -> TenantPair:
    """The reference's fft beside its gemm, at a pause of the latter that makes them meet seldom."""
    gemm = {"workload": "gemm", "target_ms": 20.7, "think_ms": 1000 * think_s, "iterations": iterations}
    return TenantPair(
        name=f"fft, gemm every {think_s:g} s",
        tenants={"fft": FFT_PACED, "gemm": gemm},
        kernels={"fft": FFT, "gemm": GEMM},
        settings={**FEW, **settings},
        quick=quick,
    )


def _open(name: str, fft: Mapping[str, Any], think_ms: float, iterations: int) -> TenantPair:
    """An open loop instead of the paced fft."""
    return TenantPair(
        name=name,
        tenants={
            "fft": {"workload": "fft", "target_ms": 3.6, "iterations": 800, **fft},
            "gemm": {"workload": "gemm", "target_ms": 20.7, "think_ms": think_ms, "iterations": iterations},
        },
        kernels={"fft": FFT, "gemm": GEMM},
        settings=FEW,
    )


PAIRS: tuple[TenantPair, ...] = (
    _beside_gemm(12, 10),
    _beside_gemm(5, 20, quick=True),
    _beside_gemm(3, 30),
    _beside_gemm(2.4, 40),
    _beside_gemm(2, 40),
    _beside_gemm(1.2, 70),
    _beside_gemm(0.15, 520, quick=True),
    TenantPair(
        name="fft, small every 0.25 s",
        tenants={
            "fft": FFT_PACED,
            "small": {"workload": "gemm", "target_ms": 2, "think_ms": 250, "iterations": 200},
        },
        kernels={"fft": FFT, "small": SyntheticKernel(1.95, hiccups=0.0)},
        settings=FEW,
    ),
    _open("Poisson fft, gemm every 1.2 s", {"arrivals": "poisson", "rate_hz": 10}, 1200, 70),
    _open(
        "trace fft, gemm every 1.2 s",
        {"arrivals": "trace", "due_ms": [0, 40, 90, 230, 300, 410, 560, 600, 640, 820], "period_ms": 1000},
        1200,
        70,
    ),
    TenantPair(
        name="fft and gemm, saturating",
        tenants={
            "fft": {"workload": "fft", "target_ms": 3.6, "iterations": 2000},
            "gemm": {"workload": "gemm", "target_ms": 20.7, "iterations": 400},
        },
        kernels={"fft": FFT, "gemm": GEMM},
        settings=FEW,
    ),
    TenantPair(
        name="fft, gemm saturating",
        tenants={
            "fft": FFT_PACED,
            "gemm": {"workload": "gemm", "target_ms": 20.7, "iterations": 800},
        },
        kernels={"fft": FFT, "gemm": GEMM},
        settings=FEW,
    ),
    TenantPair(
        name="noisy gemm, tiny every 15 ms",
        tenants={
            "gemm": {"workload": "gemm", "target_ms": 20.7, "think_ms": 40, "iterations": 800},
            "tiny": {"workload": "tiny", "think_ms": 15, "iterations": 800},
        },
        kernels={"gemm": SyntheticKernel(20.0, spread=0.12, hiccups=0.0), "tiny": SyntheticKernel(0.5, hiccups=0.0)},
        settings={"rounds": 10, "max_rounds": 30},
        quick=True,
    ),
    TenantPair(
        name="two round trips, gemm every 0.15 s",
        tenants={
            "trips": FFT_PACED,
            "gemm": {"workload": "gemm", "target_ms": 20.7, "think_ms": 150, "iterations": 520},
        },
        kernels={"trips": SyntheticKernel(3.55, trips=2, between_ms=0.4), "gemm": GEMM},
        settings=FEW,
    ),
)
"""Beside gemm, fft meets it in 0.2 to 2 % of its iterations, and in 14 %; then other loops, a true DF99 of 1.06, and a
host that waits in the middle."""
