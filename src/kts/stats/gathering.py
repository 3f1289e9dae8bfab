"""The one pass over a run's records. Whatever is learnt from it, each by a pass of its own, is listed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kts.model.reading import RunData
from kts.model.telemetry import SampleSeries
from kts.stats.activity import Join
from kts.stats.block import Pass, gather
from kts.stats.causes.kept import KeptIterations
from kts.stats.checks.conservation import Conserved
from kts.stats.checks.levels import Levels
from kts.stats.checks.observer import SampledIterations
from kts.stats.checks.symmetry import Meetings
from kts.stats.collisions import Collisions
from kts.stats.latencies import Latencies
from kts.stats.over_time import LatencyOverTime, Strips, origin_ns
from kts.stats.phase import Phases
from kts.stats.slowest import Slowest
from kts.stats.starts import Starts
from kts.stats.steadiness import SteadyStates


@dataclass(frozen=True)
class Gathered:
    """What the passes learnt of a run. ``activity`` None: there is no telemetry."""

    latencies: Latencies
    over_time: LatencyOverTime
    strips: Strips
    company: Collisions
    phases: Phases
    starts: Starts
    slowest: Slowest
    kept: KeptIterations
    activity: Join | None
    steady: SteadyStates
    levels: Levels
    meetings: Meetings
    conserved: Conserved
    readings: SampledIterations

    @classmethod
    def of(cls, run: RunData, telemetry: Sequence[SampleSeries]) -> Gathered:
        """Reads every record once; once more where a tenant was not steady from the start."""
        steady = SteadyStates(run.info, origin_ns(run))
        learnt = cls._empty(run, telemetry, steady)
        gather(run, learnt.passes)
        if since_ns := steady.since_ns():
            learnt = cls._empty(run, telemetry, steady)
            gather(run, [one for one in learnt.passes if one is not steady], since_ns)
        return learnt

    @property
    def passes(self) -> list[Pass]:
        """All of them."""
        return [one for one in vars(self).values() if one is not None]

    @classmethod
    def _empty(cls, run: RunData, telemetry: Sequence[SampleSeries], steady: SteadyStates) -> Gathered:
        plan = run.info.plan
        return cls(
            latencies=Latencies(run),
            over_time=LatencyOverTime(run),
            strips=Strips(run),
            company=Collisions(run),
            phases=Phases(plan),
            starts=Starts(plan),
            slowest=Slowest(plan),
            kept=KeptIterations(run, telemetry),
            activity=Join(telemetry, run.info) if telemetry else None,
            steady=steady,
            levels=Levels(plan),
            meetings=Meetings(),
            conserved=Conserved(run.info),
            readings=SampledIterations(telemetry, run.info),
        )
