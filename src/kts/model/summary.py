"""The figures of a report: the content of summary.json. Documented, with a JSON Schema, in docs/formats.md."""

from __future__ import annotations

from typing import Literal

import msgspec

from kts.files import ordered
from kts.model.causes import Causes
from kts.model.checks import Check
from kts.model.foretold import Came
from kts.model.provenance import Provenance
from kts.model.run import Settled
from kts.model.telemetry import Scope, SourceState

SUMMARY_VERSION = 1


class Estimate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A figure with its 95 % interval. All three are None where the data do not support it; ``refused`` says why."""

    estimate: float | None
    lo: float | None
    hi: float | None
    refused: str = ""

    def check(self) -> None:
        """ValueError where it is no figure with an interval."""
        if not ordered(self.lo, self.estimate, self.hi):
            raise ValueError("lo <= estimate <= hi, none below 0")


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """One clock in one condition: milliseconds, except ``n`` (iterations) and ``jitter`` (p99/p50)."""

    n: int
    mean: float | None
    p50: Estimate
    p95: Estimate
    p99: Estimate
    p999: Estimate
    jitter: Estimate


class Degradation(msgspec.Struct, frozen=True, kw_only=True):
    """DF: shared quantile / solo quantile, on one clock."""

    p50: Estimate
    p95: Estimate
    p99: Estimate
    p999: Estimate


class ClockSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant on one clock."""

    solo: Latency
    shared: Latency
    df: Degradation


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """Iterations per second: ``real`` = completed / wall; ``proxy`` = 1000 / mean device latency (the reference's)."""

    real: float | None
    proxy: float | None


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """Solo and shared rates of a tenant."""

    solo: Rate
    shared: Rate


class Goodput(msgspec.Struct, frozen=True, kw_only=True):
    """Fraction of iterations whose response met ``deadline_ms``, with 95 % intervals."""

    deadline_ms: float
    solo: Estimate
    shared: Estimate


class SloResult(msgspec.Struct, frozen=True, kw_only=True):
    """Whether response p99 keeps ``p99_ms``: yes or no only where the whole interval says so."""

    p99_ms: float
    solo: Literal["kept", "broken", "undetermined"]
    shared: Literal["kept", "broken", "undetermined"]


class Overlap(msgspec.Struct, frozen=True, kw_only=True):
    """Shared iterations kept, and dropped because a neighbour was not there. ``lead``: left out, solo and shared, as
    the first of their block or as submitted outside of its window. ``unsteady``: left out, solo and shared, because the
    tenant or a neighbour was not steady yet."""

    kept: int
    dropped: int
    lead: int = 0
    unsteady: int = 0


class Collided(msgspec.Struct, frozen=True, kw_only=True):
    """Shared iterations during which a neighbour had one in flight: ``n``, their ``share`` of all that count, and their
    response times (ms). The others ran while every neighbour paused."""

    n: int
    share: float
    p50: Estimate
    p95: Estimate
    p99: Estimate


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Where the tail's added service time comes from, means over the slowest 1 % and at least 30 (ms).

    ``added_ms`` = ``wait_ms`` + ``device_ms``, shared minus solo: service time that is not on the device's
    stopwatch, and what is. A GPU's stopwatch also runs through the turns of others, thread CPU time does
    not. ``factor`` is what ``wait_ms`` alone adds to solo p99 as a multiple of it.
    """

    added_ms: float
    wait_ms: float
    device_ms: float
    factor: float


SteadyKind = Literal["flat", "warm-up", "slowdown", "changing", "no-steady-state"]


class SteadyState(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a tenant's ``iterations`` in one state; seconds since the run's first block.

    ``level``: how long they took, over the median of those that count under the same conditions. ``counts``: they are
    in the figures.
    """

    begin_s: float
    end_s: float
    iterations: int
    level: float
    counts: bool


class Steadiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the tenant was steady while it was measured, by its change points. ``left_out``: its iterations before.
    ``settled``: whether it was so before its first block, as its worker says.

    flat: one state. warm-up: a slow start, left out. slowdown: it ends in a state slower than all before. changing: its
    states come and go. no-steady-state: at its end it is still getting slower or faster.
    """

    kind: SteadyKind
    left_out: int
    states: tuple[SteadyState, ...]
    settled: Settled | None = None

    @property
    def unsettled(self) -> bool:
        """True where it was not steady when the time before its first block was over."""
        return self.settled is not None and not self.settled.steady


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What it means, from response DF99 and its interval. ``kind`` is for programs, ``sentence`` for people.

    With X the asked precision, no-change: the whole interval is in [1 / (1 + X), 1 + X]. Else worse / better: all
    of it is above / below 1; undetermined: it holds 1. refused: no interval. not-steady: the tenant, or a neighbour,
    had no steady state that a figure could stand for. ``precise``: its longer arm is at most X. ``relevant``: the
    change is beyond X (true), within it (false), or that is not settled (null). ``dimmed``: why drift cannot be told
    from sharing, and so the verdict says little; empty where rounds tell them apart.
    """

    kind: Literal["worse", "better", "no-change", "undetermined", "refused", "not-steady"]
    precise: bool
    sentence: str
    relevant: bool | None = None
    dimmed: str = ""


class ReferenceFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The published system's own analysis (device time, every sample, no intervals); milliseconds, iterations/s."""

    n: int
    p50: float
    p95: float
    p99: float
    jitter: float
    throughput: float


class ReferenceTable(msgspec.Struct, frozen=True, kw_only=True):
    """Reference figures of a tenant, and its DF (ratios)."""

    solo: ReferenceFigures
    shared: ReferenceFigures
    df: dict[str, float]


ActivityRole = Literal["sm", "dram", "process-sm", "cpu-run", "cpu-wait", ""]


class ActivityMean(msgspec.Struct, frozen=True, kw_only=True):
    """Time-weighted means of one telemetry metric: ``mean`` over the tenant's iterations (submit to retire),
    ``block_mean`` over whole blocks; None where no sample covers any. ``samples`` were joined; they cover the share
    ``covered`` of the iterations' time."""

    mean: float | None
    block_mean: float | None
    samples: int
    covered: float


class BlockActivity(msgspec.Struct, frozen=True, kw_only=True):
    """The same in one block."""

    block: int
    condition: str
    mean: float | None
    block_mean: float | None
    samples: int
    covered: float


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """One telemetry metric, joined to a tenant's iterations by time.

    ``scope``: ``device`` is of the whole device, whoever used it; ``tenant`` of the tenant alone. ``role``: what it
    stands for in tables and pictures, the best source that was there: SM activity, DRAM activity, its process's SM
    utilisation, share of time running on a core or waiting for one; empty for all others, which have no ``blocks``.
    """

    metric: str
    source: str
    scope: Scope
    unit: str
    role: ActivityRole
    solo: ActivityMean
    shared: ActivityMean
    blocks: tuple[BlockActivity, ...] = ()


class TenantSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Everything reported about one tenant. ``activity`` is absent where the run has no telemetry, ``causes`` (by
    shared condition, the full house last) in a summary of an older kts."""

    workload: str
    size: int | None
    response: ClockSummary
    service: ClockSummary
    device: ClockSummary
    throughput: Throughput
    overlap: Overlap
    verdict: Verdict
    collided: Collided | None = None
    waiting: Waiting | None = None
    goodput: Goodput | None = None
    slo: SloResult | None = None
    reference: ReferenceTable | None = None
    activity: tuple[Activity, ...] | msgspec.UnsetType = msgspec.UNSET
    steadiness: Steadiness | None = None
    causes: tuple[Causes, ...] | msgspec.UnsetType = msgspec.UNSET


class Caution(msgspec.Struct, frozen=True, kw_only=True):
    """Something that limits what the figures mean. ``code`` is stable, ``text`` is for people."""

    code: str
    text: str
    tenant: str = ""


class MixTenant(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant in one mix, against itself alone. ``n``: iterations that count; DF: mix / solo.

    ``df_p50`` and ``df_p99`` are of the response, ``device_df_p99`` of the device's stopwatch; ``kind`` as in
    `Verdict`, from ``df_p99``, undetermined where one of the mix was not steady; ``precise`` and ``dimmed``, too.
    ``response``: its times in this mix; ``rate_hz``: iterations a second; both null in a summary of an older kts.
    """

    n: int
    df_p50: Estimate
    df_p99: Estimate
    device_df_p99: Estimate
    kind: Literal["worse", "better", "no-change", "undetermined", "refused"]
    precise: bool
    dimmed: str = ""
    response: Latency | None = None
    rate_hz: float | None = None


class Mix(msgspec.Struct, frozen=True, kw_only=True):
    """Tenants measured together in one condition, in the plan's order. ``beside``: the others that were there, of which
    no figures are asked."""

    condition: str
    tenants: dict[str, MixTenant]
    beside: tuple[str, ...] = ()


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """summary.json.

    ``mixes``: the shared conditions, the full house last; absent where the full house is the only one and nobody is
    the subject. Every other figure called "shared" is of the full house, the largest of the mixes. ``subject``: the
    tenant that is asked about, and then the only one of ``tenants``; absent where all are. ``telemetry``: the sources
    that were asked for, missing ones included; absent where none was. ``provenance``: as in run.json; absent where it
    is not there. ``checks``: all of them, passed or not; absent in a summary of an older kts. ``warnings``: what they
    caution against, and what else was seen. ``foretold``: which figures came otherwise than the run foretold; absent
    where none did.
    """

    schema: int
    run: str
    experiment: str
    design: str
    device: str  # the honest label
    is_gpu: bool
    backend: str
    mode: str
    outcome: str
    confidence: float
    headline_clock: str
    rounds: int
    tenants: dict[str, TenantSummary]
    warnings: tuple[Caution, ...] = ()
    notes: tuple[str, ...] = ()
    subject: str | msgspec.UnsetType = msgspec.UNSET
    mixes: tuple[Mix, ...] | msgspec.UnsetType = msgspec.UNSET
    telemetry: tuple[SourceState, ...] | msgspec.UnsetType = msgspec.UNSET
    provenance: Provenance | msgspec.UnsetType = msgspec.UNSET
    checks: tuple[Check, ...] | msgspec.UnsetType = msgspec.UNSET
    foretold: Came | msgspec.UnsetType = msgspec.UNSET

    def check(self) -> None:
        """ValueError where its intervals cannot be."""
        if not 0 < self.confidence < 1:
            raise ValueError("a confidence is between 0 and 1")
