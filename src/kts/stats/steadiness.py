"""Whether each tenant was steady while it was measured, from when on, and which states it passed through.

What a tenant did before it was steady is in no figure, its neighbours' iterations of that time included: they ran
beside a program that still warmed up. The method is that of `kts.steady`, over all blocks of a tenant in order of time;
each iteration counts as its place among those of its condition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kts.model.reading import RunData
from kts.model.run import RunInfo
from kts.model.summary import Steadiness, SteadyState
from kts.stats.block import MeasuredBlock, gather
from kts.stats.series import Stages
from kts.steady import Segments, course
from kts.units import format_ratio

KEPT = 2000
"""Iterations kept of a block: every so many-th of one that has more. What is left out ends with one that was kept."""
TELLING = 100
"""Iterations that show by themselves whether a tenant is steady that was not before its first block."""
SHORTEST = 0.02
"""The least share of a tenant's iterations that a state must hold to be named."""


@dataclass(frozen=True, eq=False)
class _KeptSeries:
    condition: str
    each: int
    submit_ns: NDArray[np.int64]
    service_ms: NDArray[np.float64]


class SteadyStates:
    """A pass over all that would count if every tenant was steady from the start. Seconds are since ``origin_ns``."""

    def __init__(self, info: RunInfo, origin_ns: int) -> None:
        self._origin_ns = origin_ns
        self._settled = {worker.tenant: worker.settled for worker in info.workers}
        self._kept: dict[str, list[_KeptSeries]] = {tenant.name: [] for tenant in info.plan.tenants}
        self._courses: dict[str, Segments] = {}

    def feed(self, block: MeasuredBlock) -> None:
        """See Pass."""
        for name, rows in block.kept.items():
            each = -(-len(rows.service) // KEPT)
            if each:
                picked = slice(each - 1, None, each)
                self._kept[name].append(
                    _KeptSeries(
                        block.outcome.condition,
                        each,
                        rows.span.submit_ns[picked].copy(),
                        rows.service[picked].astype(np.float64),
                    )
                )

    def course(self, tenant: str) -> Segments:
        """Of what was kept of the tenant."""
        if tenant not in self._courses:
            self._courses[tenant] = course(self._joined(tenant, "service_ms"), self._conditions(tenant))
        return self._courses[tenant]

    def since_ns(self) -> dict[str, int]:
        """By tenant that was not steady from the start: from which submission on it was."""
        found = {name: self.course(name).first for name in self._kept}
        return {name: int(self._joined(name, "submit_ns")[first]) for name, first in found.items() if first}

    def summary(self, tenant: str) -> Steadiness:
        """What the report says of the tenant."""
        found, submit_ns = self.course(tenant), self._joined(tenant, "submit_ns")
        each = np.concatenate([np.empty(0), *(np.full(len(k.service_ms), k.each) for k in self._kept[tenant])])
        return Steadiness(
            kind=found.kind,
            left_out=int(each[: found.first].sum() + each[found.first] - 1) if found.first else 0,
            states=tuple(
                SteadyState(
                    begin_s=(int(submit_ns[one.first]) - self._origin_ns) / 1e9,
                    end_s=(int(submit_ns[one.beyond - 1]) - self._origin_ns) / 1e9,
                    iterations=int(each[one.first : one.beyond].sum()),
                    level=one.level,
                    counts=one.beyond > found.first,
                )
                for one in found.segments
            ),
            settled=self._settled.get(tenant),
        )

    def stages(self, tenant: str) -> Stages | None:
        """For the picture; None where the tenant was in one state all the time."""
        found = self.course(tenant)
        if found.kind == "flat":
            return None
        service_ms, of = self._joined(tenant, "service_ms"), self._conditions(tenant)
        level = np.empty(len(service_ms))
        for condition in np.unique(of):
            mine = np.flatnonzero(of == condition)
            level[mine] = service_ms[mine] / np.median(
                service_ms[mine[mine >= found.first] if mine[-1] >= found.first else mine]
            )
        return Stages(
            t_s=(self._joined(tenant, "submit_ns") - self._origin_ns) / 1e9,
            level=level,
            first=found.first,
            segments=found.segments,
        )

    def _conditions(self, tenant: str) -> NDArray[np.int64]:
        kept = self._kept[tenant]
        number = {name: k for k, name in enumerate(dict.fromkeys(one.condition for one in kept))}
        return np.repeat([number[one.condition] for one in kept], [len(one.service_ms) for one in kept]).astype(
            np.int64
        )

    def _joined(self, tenant: str, field: str) -> NDArray[np.float64]:
        return np.concatenate([np.empty(0, np.int64), *(getattr(kept, field) for kept in self._kept[tenant])])


def since_ns(run: RunData) -> dict[str, int]:
    """By tenant that was not steady from the start: from which submission on it was. Reads every record."""
    steady = SteadyStates(run.info, 0)
    gather(run, [steady])
    return steady.since_ns()


def unsteady(tenants: Mapping[str, Steadiness], tenant: str, mix: Sequence[str]) -> str:
    """Why the tenant's figures in a mix stand for no steady state, its own or a neighbour's; empty where they do."""
    reasons = {name: text for name in mix if (text := no_steady_state(tenants[name]))}
    if tenant in reasons:
        return reasons[tenant]
    return "; ".join(f"its neighbour {name} was not: {text}" for name, text in reasons.items())


def telling(found: Steadiness) -> list[SteadyState]:
    """The states that count and hold enough iterations to be named."""
    counting = [state for state in found.states if state.counts]
    total = sum(state.iterations for state in counting)
    return [state for state in counting if state.iterations >= SHORTEST * total]


def factor(states: Sequence[SteadyState]) -> float:
    """The slowest of them over the fastest; 1 where there are fewer than two."""
    levels = [state.level for state in states]
    return max(levels) / min(levels) if len(levels) > 1 else 1.0


def no_steady_state(found: Steadiness) -> str:
    """Why nothing of it stands for what comes; empty where something does."""
    if found.kind != "no-steady-state":
        counting = sum(state.iterations for state in found.states if state.counts)
        if found.settled is None or found.settled.steady or counting >= TELLING:
            return ""
        return (
            f"it was still changing when the {found.settled.limit_s:g} s before its first block were over, and "
            f"{counting} iterations do not show that it is steady since"
        )
    levels = [state.level for state in found.states]
    way = "slower" if levels[-1] > levels[0] else "faster"
    times = max(levels[-1] / levels[0], levels[0] / levels[-1])
    return f"it was still getting {way} at the end, {format_ratio(times)}x in all, in {len(levels)} states"
