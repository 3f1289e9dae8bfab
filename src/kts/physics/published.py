"""The published table (GTX 1080, device-event time) as a case to predict: shared rows from solo rows and a slice."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from kts.arrivals import Closed
from kts.physics.values import Fingerprint, Floats, Gpu, Interval, Profile, bursts, make_profile

GPU = Gpu(kind="cuda", name="GTX 1080", label="GTX 1080 (published table)")
SOLO_MS = {"fft": (3.598, 3.645, 3.679), "gemm": (20.677, 20.896, 20.985)}
"""p50, p95, p99."""
SHARED_MS = {"fft": (3.593, 5.868, 6.101), "gemm": (20.669, 24.505, 24.690)}
THINK_MS = {"fft": 100.0, "gemm": 150.0}
"""Fixed pauses between iterations, without jitter."""
PROXY_HZ = {"fft": (278.1, 257.9), "gemm": (49.1, 48.3)}
"""1000 / mean device time, solo and shared."""
ITERATIONS = 800


def profiles(n: int = 4000) -> dict[str, Profile]:
    """Both tenants as single bursts without host time: the published clock shows the device alone."""
    return {
        name: make_profile(name, bursts(solo_ms(name, n), 0.0), GPU, arrivals=Closed(think_ms=think, jitter=0.0))
        for name, think in THINK_MS.items()
    }


def solo_ms(name: str, n: int) -> Floats:
    """``n`` durations with the published solo quantiles, in random order (fixed seed).

    Only three quantiles are published. Between them the quantile function is taken to be linear in the normal
    score; above p99 it goes on with the slope from p95 to p99, below the median with that from p50 to p95.
    """
    p50, p95, p99 = SOLO_MS[name]
    z, (z95, z99) = ndtri((np.arange(n) + 0.5) / n), ndtri([0.95, 0.99])
    upper = (p99 - p95) / (z99 - z95)
    values = np.where(z < z95, p50 + (p95 - p50) / z95 * z, p95 + upper * (z - z95))
    return np.asarray(np.random.default_rng(0).permutation(values), dtype=np.float64)


def fingerprint(slice_ms: float, switch_ms: float = 0.06) -> Fingerprint:
    """Every switch at one cost, no intervals: the table says nothing about either."""
    cost = (Interval.exact(switch_ms),)
    return Fingerprint(
        gpu=GPU,
        slice_ms=Interval.exact(slice_ms),
        preempt_ms=cost,
        yield_ms=cost,
        source="assumed",
        how="chosen for the published table",
    )
