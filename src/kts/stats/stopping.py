"""Sequential stopping: measure until the answer is as precise as asked, and an answer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kts.model.plan import Plan
from kts.model.records import Records, clock_ms
from kts.model.run import BlockOutcome
from kts.model.summary import Estimate
from kts.stats.degradation import degradation
from kts.stats.faults import sound
from kts.stats.overlap import Span, counted
from kts.stats.sample import FloatArray, make_sample, split_blocks
from kts.stats.verdict import half_width, settled


@dataclass
class _Pending:
    """A shared block whose overlap is not yet known: when its iterations ran, and their responses, by tenant."""

    block: BlockOutcome
    rows: dict[str, tuple[Span, FloatArray]] = field(default_factory=dict)


class PrecisionRule:
    """Reached once the 95 % interval of every tenant's response DF99 is within +-``precision`` (relative) and its
    verdict is settled (`kts.stats.verdict.settled`), in the full house and in every other mix that the plan measures.

    A program of the user's that has no records is a neighbour, and nothing is asked of it.

    A `kts.conduct.ports.StopRule`. The estimator is the final one, so what stops the run is what the
    report prints. Keeps 4 bytes per iteration of the blocks that count (response times). Of a tenant's mixes
    the one that was not settled last time is looked at first, and no other while that one is not.
    """

    def __init__(self, plan: Plan, precision: float, *, confidence: float = 0.95) -> None:
        self._precision, self._confidence = precision, confidence
        self._names = tuple(tenant.name for tenant in plan.tenants)
        self._programs = {tenant.name for tenant in plan.tenants if not tenant.work.in_thread}
        self._mixes_of = {name: [mix.name for mix in plan.mixes if name in mix.tenants] for name in self._names}
        self._mix_names = {mix.name for mix in plan.mixes}
        self._solo_of = {c.name: c.tenants[0] for c in plan.conditions if c.is_solo}
        self._solo: dict[str, list[tuple[int, FloatArray]]] = {name: [] for name in self._names}
        self._shared: dict[tuple[str, str], list[tuple[int, FloatArray]]] = {}
        self._pending: dict[int, _Pending] = {}
        self._looked: dict[str, tuple[float | None, bool]] | None = None

    def add(self, tenant: str, block: BlockOutcome, records: Records) -> None:
        """All records of a tenant in a block that ended valid."""
        records, _ = sound(records)
        if not block.valid or not len(records) or tenant not in self._solo:
            return
        response = clock_ms(records, "response").astype(np.float32)
        if self._solo_of.get(block.condition) == tenant:
            keep = counted(block, {tenant: Span.of(records)})[tenant].keep
            self._solo[tenant].append((block.round, response[keep]))
        elif block.condition in self._mix_names:
            self._pending.setdefault(block.index, _Pending(block)).rows[tenant] = Span.of(records), response
        else:
            return
        self._looked = None

    def reached(self) -> bool:
        """True once every tenant's verdict is settled. False while any DF99 is refused."""
        found = self._look().values()
        return bool(found) and all(done for _, done in found)

    def widths(self) -> dict[str, float | None]:
        """Relative half-width of each tenant's DF99 interval so far, in a mix that is not settled if there is one.

        None while it is refused. Neighbours have none.
        """
        return {name: width for name, (width, _) in self._look().items()}

    def _look(self) -> dict[str, tuple[float | None, bool]]:
        """Of every tenant that is asked for: half-width, and whether all its mixes are settled."""
        if self._looked is None:
            self._settle()
            self._looked = {name: self._look_at(name) for name in self._names if self._counts(name)}
        return self._looked

    def _counts(self, name: str) -> bool:
        shared = any(self._shared.get((name, mix)) for mix in self._mixes_of[name])
        return name not in self._programs or bool(self._solo[name]) or shared

    def _settle(self) -> None:
        for pending in self._pending.values():
            counts = counted(pending.block, {name: span for name, (span, _) in pending.rows.items()})
            for name, (_, response) in pending.rows.items():
                kept = (pending.block.round, response[counts[name].keep])
                self._shared.setdefault((name, pending.block.condition), []).append(kept)
        self._pending.clear()

    def _look_at(self, name: str) -> tuple[float | None, bool]:
        """Of the first mix that is not settled, or of the widest."""
        mixes = self._mixes_of[name]
        widest = 0.0
        for mix in list(mixes):
            df = self._df_in(name, mix)
            width = half_width(df)
            if width is None or not settled(df, self._precision):
                mixes.remove(mix)
                mixes.insert(0, mix)
                return width, False
            widest = max(widest, width)
        return (widest, True) if mixes else (None, False)

    def _df_in(self, name: str, mix: str) -> Estimate:
        blocks = self._solo[name], self._shared.get((name, mix), [])
        solo, shared = ([(r, v.copy()) for r, v in side if len(v)] for side in blocks)  # samples sort in place
        rounds = {r for r, _ in solo}, {r for r, _ in shared}
        split = split_blocks(*rounds)
        above, below = (make_sample(values, split=split) for values in (shared, solo))
        return degradation(above, below, 0.99, self._confidence)
