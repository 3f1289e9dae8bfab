"""A part of a run, seen as a run of its own: some of its conditions, tenants by other names. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from msgspec.structs import replace

from kts.model.cluster import ClusterFacts
from kts.model.foretold import Foretold
from kts.model.mode import SharingMode
from kts.model.plan import Plan
from kts.model.reading import RunData
from kts.model.records import Records
from kts.model.run import BlockOutcome, RunInfo
from kts.model.telemetry import SampleSeries


class RunPart:
    """What a run of ``plan`` alone would have recorded. A `RunData`.

    ``tenants``, ``conditions``: those of the run that belong to it, and what ``plan`` calls them; several tenants of
    the run may be one, in different blocks. By default those of ``plan``, by their own names. ``workers``: of which
    tenants of the run the workers are shown; by default of all these. ``mode``: in place of the run's. ``foretold``: of
    this part.
    """

    def __init__(
        self,
        run: RunData,
        plan: Plan,
        *,
        tenants: Mapping[str, str] | None = None,
        conditions: Mapping[str, str] | None = None,
        workers: Collection[str] | None = None,
        mode: SharingMode | None = None,
        foretold: tuple[Foretold, ...] = (),
    ) -> None:
        tenants = {one.name: one.name for one in plan.tenants} if tenants is None else tenants
        conditions = {one.name: one.name for one in plan.conditions} if conditions is None else conditions
        self._run, self._tenants, self._conditions = run, tenants, conditions
        self._called = {
            (one.index, tenants[name]): name
            for one in run.blocks
            if one.condition in conditions
            for name in run.info.plan.condition(one.condition).tenants
        }
        shown = tenants if workers is None else workers
        self.info = replace(self._part_of(run.info, plan, shown, mode), foretold=foretold)
        self.blocks: Sequence[BlockOutcome] = self._blocks(run.blocks)

    @property
    def damage(self) -> Sequence[str]:
        """See RunData."""
        return self._run.damage

    @property
    def cluster(self) -> ClusterFacts | None:
        """See RunData."""
        return self._run.cluster

    def records(self, tenant: str, block: int) -> Records:
        """See RunData."""
        return self._run.records(self._called.get((block, tenant), tenant), block)

    def portions(self, tenant: str, block: int) -> Iterator[Records]:
        """See RunData."""
        return self._run.portions(self._called.get((block, tenant), tenant), block)

    def telemetry(self) -> Sequence[SampleSeries]:
        """See RunData. What was sampled of several tenants that are one here is joined."""
        kept: dict[tuple[str, str, str], list[SampleSeries]] = {}
        for series in self._run.telemetry():
            subject = series.subject if series.scope == "device" else self._tenants.get(series.subject, "")
            if subject:
                kept.setdefault((series.source, series.metric, subject), []).append(series)
        return [_joined(subject, several) for (_, _, subject), several in kept.items()]

    def _part_of(self, info: RunInfo, plan: Plan, workers: Collection[str], mode: SharingMode | None) -> RunInfo:
        names = self._tenants
        return replace(
            info,
            plan=plan,
            workers=tuple(replace(one, tenant=names[one.tenant]) for one in info.workers if one.tenant in workers),
            blocks=self._blocks(info.blocks),
            mode=info.mode if mode is None else mode,
            altered={names[name]: how for name, how in info.altered.items() if name in names},
        )

    def _blocks(self, blocks: Sequence[BlockOutcome]) -> tuple[BlockOutcome, ...]:
        return tuple(
            renamed(one, self._tenants, self._conditions) for one in blocks if one.condition in self._conditions
        )


def renamed(block: BlockOutcome, tenants: Mapping[str, str], conditions: Mapping[str, str]) -> BlockOutcome:
    """The block with other names; KeyError where it has one that is not among these."""
    return replace(
        block,
        condition=conditions[block.condition],
        counts={tenants[name]: count for name, count in block.counts.items()},
        lost={tenants[name]: count for name, count in block.lost.items()},
        events_lost={tenants[name]: count for name, count in block.events_lost.items()},
    )


def _joined(subject: str, several: list[SampleSeries]) -> SampleSeries:
    first = several[0]
    if len(several) == 1 and first.subject == subject:
        return first
    t_ns, span_ns, value = (
        np.concatenate([getattr(one, column) for one in several]) for column in ("t_ns", "span_ns", "value")
    )
    order = np.argsort(t_ns, kind="stable")
    return SampleSeries(
        source=first.source,
        metric=first.metric,
        scope=first.scope,
        subject=subject,
        t_ns=t_ns[order],
        span_ns=span_ns[order],
        value=value[order],
    )
