"""Sequential stopping: measure until the answer is as precise as asked."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kts.model.plan import Plan
from kts.model.records import Records, clock_ms
from kts.model.run import BlockOutcome
from kts.stats.analysis import split_blocks
from kts.stats.degradation import ratio_estimate
from kts.stats.overlap import active_window, overlapping
from kts.stats.sample import FloatArray, make_sample
from kts.stats.verdict import half_width


@dataclass
class _Pending:
    """A shared block whose overlap is not yet known: (submit_ns, retire_ns, response) by tenant."""

    condition: str
    round: int
    rows: dict[str, tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]] = field(default_factory=dict)


class PrecisionRule:
    """Reached once the 95 % interval of every tenant's response DF99 is within +-``precision`` (relative), in
    the full house and in every other mix that the plan measures.

    A program of the user's that has no records is a neighbour, and nothing is asked of it.

    A `kts.conduct.ports.StopRule`. The estimator is the final one, so what stops the run is what the
    report prints. Keeps 4 bytes per iteration of the blocks that count (response times). Of a tenant's mixes
    the one that was widest last time is looked at first, and no other while that one is too wide.
    """

    def __init__(self, plan: Plan, precision: float, *, confidence: float = 0.95) -> None:
        self._precision, self._confidence = precision, confidence
        self._names = tuple(tenant.name for tenant in plan.tenants)
        self._programs = {tenant.name for tenant in plan.tenants if tenant.work.workload == "command"}
        self._mixes_of = {name: [mix.name for mix in plan.mixes if name in mix.tenants] for name in self._names}
        self._mix_names = {mix.name for mix in plan.mixes}
        self._solo_of = {c.name: c.tenants[0] for c in plan.conditions if c.is_solo}
        self._solo: dict[str, list[tuple[int, FloatArray]]] = {name: [] for name in self._names}
        self._shared: dict[tuple[str, str], list[tuple[int, FloatArray]]] = {}
        self._pending: dict[int, _Pending] = {}
        self._widths: dict[str, float | None] | None = None

    def add(self, tenant: str, block: BlockOutcome, records: Records) -> None:
        """All records of a tenant in a block that ended valid."""
        if not block.valid or not len(records) or tenant not in self._solo:
            return
        response = clock_ms(records, "response").astype(np.float32)
        if self._solo_of.get(block.condition) == tenant:
            self._solo[tenant].append((block.round, response))
        elif block.condition in self._mix_names:
            pending = self._pending.setdefault(block.index, _Pending(block.condition, block.round))
            submit, retire = (np.ascontiguousarray(records[name]) for name in ("submit_ns", "retire_ns"))
            pending.rows[tenant] = submit, retire, response
        else:
            return
        self._widths = None

    def reached(self) -> bool:
        """True once every tenant's interval is narrow enough. False while any DF99 is refused."""
        widths = self.widths().values()
        return bool(widths) and all(width is not None and width <= self._precision for width in widths)

    def widths(self) -> dict[str, float | None]:
        """Relative half-width of each tenant's DF99 interval so far, in a mix that is too wide if there is one.

        None while it is refused. Neighbours have none.
        """
        if self._widths is None:
            self._settle()
            self._widths = {name: self._width(name) for name in self._names if self._counts(name)}
        return dict(self._widths)

    def _counts(self, name: str) -> bool:
        shared = any(self._shared.get((name, mix)) for mix in self._mixes_of[name])
        return name not in self._programs or bool(self._solo[name]) or shared

    def _settle(self) -> None:
        for pending in self._pending.values():
            windows = {name: active_window(rows[0], rows[1]) for name, rows in pending.rows.items()}
            for name, (submit, retire, response) in pending.rows.items():
                kept = response[overlapping(submit, retire, name, windows)]
                self._shared.setdefault((name, pending.condition), []).append((pending.round, kept))
        self._pending.clear()

    def _width(self, name: str) -> float | None:
        """Of the first mix that is refused or too wide, or of the widest."""
        mixes = self._mixes_of[name]
        widest: float | None = None
        for mix in list(mixes):
            width = self._width_in(name, mix)
            if width is None or width > self._precision:
                mixes.remove(mix)
                mixes.insert(0, mix)
                return width
            widest = max(widest or 0.0, width)
        return widest

    def _width_in(self, name: str, mix: str) -> float | None:
        blocks = self._solo[name], self._shared.get((name, mix), [])
        solo, shared = ([(r, v.copy()) for r, v in side if len(v)] for side in blocks)  # samples sort in place
        rounds = {r for r, _ in solo}, {r for r, _ in shared}
        split = split_blocks(*rounds)
        samples = [make_sample(values, split=split) for values in (shared, solo)]
        return half_width(ratio_estimate(samples[0], 0.99, samples[1], 0.99, self._confidence))
