"""What a prediction says: frozen values, the content of a prediction file. See docs/formats.md."""

from __future__ import annotations

from typing import Literal

import msgspec

from kts.arrivals import Arrivals
from kts.files import ordered
from kts.model.provenance import Provenance
from kts.physics.values import Fingerprint

PREDICTION_VERSION = 1


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """A predicted figure and the band that a run of the given length should fall into. All None: too few iterations."""

    value: float | None
    lo: float | None
    hi: float | None

    def check(self) -> None:
        """ValueError where it is no figure with a band."""
        if not ordered(self.lo, self.value, self.hi):
            raise ValueError("lo <= value <= hi, none below 0")


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One clock: milliseconds, or ratios."""

    mean: Band
    p50: Band
    p95: Band
    p99: Band
    p999: Band


FIGURES: tuple[str, ...] = Figures.__struct_fields__


class Plain(msgspec.Struct, frozen=True, kw_only=True):
    """The same figures without bands; None where there are too few iterations."""

    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    p999: float | None

    def check(self) -> None:
        """ValueError where a figure is below 0."""
        if any((getattr(self, name) or 0.0) < 0 for name in FIGURES):
            raise ValueError("no figure is below 0")


class ModelError(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the band that stands for what the model leaves out, as relative standard deviations.

    ``kinds``: of every shared time, by kind of tenant (kts.physics.kinds); ``relative`` for those not named there.
    ``solo``: of the time alone that DF divides by, by kind; 0 for those not named. ``host``: of the host's speed from
    the profile to the run, ``host_block``: from one of the run's blocks to the next, ``program_host``: besides
    ``host``, of all programs together, where only profiles tell their hosts.
    ``source``: ``none`` (0: the band covers the run's length, the profile's and the fingerprint's uncertainty, and
    nothing else), ``given`` by the user, or ``fitted`` on measured mixes that are not among those predicted;
    ``how`` names them.
    """

    relative: float = 0.0
    source: Literal["none", "given", "fitted"] = "none"
    how: str = ""
    kinds: dict[str, float] = {}
    solo: dict[str, float] = {}
    host: float = 0.0
    host_block: float = 0.0
    program_host: float = 0.0

    def of(self, kind: str) -> float:
        """That of every shared time of a tenant of ``kind``."""
        return self.kinds.get(kind, self.relative)


class TenantForecast(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant in one mix. ``iterations``: simulated for the figures themselves.

    ``solo``: response and device alone, and where from: ``profiled`` (measured without a tracer) or ``simulated``.
    ``df``, ``device_df``: shared / solo. ``rate_hz``: completed per second. ``missed``: share of iterations whose
    response is over ``deadline_ms``. ``gpu_share``: of the GPU's time; side by side, of all time in which it
    has a kernel there. ``overloaded``: an open loop that falls behind its arrivals, so that its figures depend on how
    long one looks. ``baselines``: response by simpler rules.
    """

    profile: str
    iterations: int
    response: Figures
    service: Figures
    device: Figures
    solo_source: Literal["profiled", "simulated"]
    solo: Plain
    solo_device: Plain
    df: Figures
    device_df: Figures
    rate_hz: Band
    solo_rate_hz: float
    gpu_share: float
    overloaded: bool = False
    deadline_ms: float | None = None
    missed: Band | None = None
    baselines: dict[str, Plain] = {}


class MixForecast(msgspec.Struct, frozen=True, kw_only=True):
    """Tenants together. ``busy``, ``switching``, ``idle``: shares of the GPU's time. ``seconds``: length of the run of
    this mix that the bands are for; None: the prediction's."""

    name: str
    tenants: dict[str, TenantForecast]
    busy: float
    switching: float
    idle: float
    seconds: float | None = None


class ProfileUsed(msgspec.Struct, frozen=True, kw_only=True):
    """Which profile was used: what it is of, whether it holds launches or single bursts, and of which kind the tenant
    is (kts.physics.kinds)."""

    workload: str
    size: int | None
    method: str
    iterations: int
    device: str
    arrivals: Arrivals
    kind: str = ""


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction file. ``seconds``: length of the run that the bands are for, of each mix; ``confidence``: their
    nominal one.

    ``order_known``: the GPU serves the tenants of a mix in the order given; else the bands are for any order.
    """

    schema: int = PREDICTION_VERSION
    kts: str = ""
    fingerprint: Fingerprint
    profiles: dict[str, ProfileUsed]
    seconds: float
    confidence: float
    replicates: int
    seed: int
    model_error: ModelError
    mixes: tuple[MixForecast, ...]
    order_known: bool = False
    notes: tuple[str, ...] = ()
    created_ns: int | None = None  # CLOCK_REALTIME
    provenance: Provenance | None = None

    def check(self) -> None:
        """ValueError where its bands cannot be."""
        if not 0 < self.confidence < 1:
            raise ValueError("a confidence is between 0 and 1")
        if any(seconds is not None and not seconds > 0 for seconds in (self.seconds, *(m.seconds for m in self.mixes))):
            raise ValueError("a run is longer than 0 s")
