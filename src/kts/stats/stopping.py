"""Sequential stopping: measure until the answer is as precise as asked."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kts.model.plan import Plan
from kts.model.records import Records, clock_ms
from kts.model.run import BlockOutcome
from kts.stats.analysis import split_blocks
from kts.stats.degradation import Bootstrap
from kts.stats.overlap import active_window, overlapping
from kts.stats.sample import FloatArray, make_sample
from kts.stats.verdict import half_width


@dataclass
class _Pending:
    """A shared block whose overlap is not yet known: (submit_ns, retire_ns, response) by tenant."""

    round: int
    rows: dict[str, tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]] = field(default_factory=dict)


class PrecisionRule:
    """Reached once the 95 % interval of every tenant's response DF99 is within +-``precision`` (relative).

    A program of the user's that has no records is a neighbour, and nothing is asked of it.

    A `kts.conduct.ports.StopRule`. The estimator is the final one, so what stops the run is what the
    report prints. Keeps 4 bytes per iteration of the blocks that count (response times).
    """

    def __init__(self, plan: Plan, precision: float, *, confidence: float = 0.95, seed: int = 0) -> None:
        self._precision, self._confidence, self._seed = precision, confidence, seed
        self._names = tuple(tenant.name for tenant in plan.tenants)
        self._programs = {tenant.name for tenant in plan.tenants if tenant.work.workload == "command"}
        self._house = plan.full_house
        self._solo_of = {c.name: c.tenants[0] for c in plan.conditions if c.is_solo}
        self._solo: dict[str, list[tuple[int, FloatArray]]] = {name: [] for name in self._names}
        self._shared: dict[str, list[tuple[int, FloatArray]]] = {name: [] for name in self._names}
        self._pending: dict[int, _Pending] = {}
        self._widths: dict[str, float | None] | None = None

    def add(self, tenant: str, block: BlockOutcome, records: Records) -> None:
        """All records of a tenant in a block that ended valid."""
        if not block.valid or not len(records) or tenant not in self._solo:
            return
        response = clock_ms(records, "response").astype(np.float32)
        if self._solo_of.get(block.condition) == tenant:
            self._solo[tenant].append((block.round, response))
        elif block.condition == self._house.name:
            pending = self._pending.setdefault(block.index, _Pending(block.round))
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
        """Relative half-width of each tenant's DF99 interval so far; None while it is refused. Neighbours have none."""
        if self._widths is None:
            self._settle()
            self._widths = {name: self._width(name) for name in self._names if self._counts(name)}
        return dict(self._widths)

    def _counts(self, name: str) -> bool:
        return name not in self._programs or bool(self._solo[name] or self._shared[name])

    def _settle(self) -> None:
        for pending in self._pending.values():
            windows = {name: active_window(rows[0], rows[1]) for name, rows in pending.rows.items()}
            for name, (submit, retire, response) in pending.rows.items():
                kept = response[overlapping(submit, retire, name, windows)]
                self._shared[name].append((pending.round, kept))
        self._pending.clear()

    def _width(self, name: str) -> float | None:
        solo, shared = ([(r, v) for r, v in blocks if len(v)] for blocks in (self._solo[name], self._shared[name]))
        rounds = {r for r, _ in solo}, {r for r, _ in shared}
        split = split_blocks(*rounds)
        bootstrap = Bootstrap(
            rounds=tuple(sorted(rounds[0] | rounds[1])),
            confidence=self._confidence,
            seed=self._seed + zlib.crc32(name.encode()),
        )
        samples = [make_sample(blocks, split=split) for blocks in (shared, solo)]
        return half_width(bootstrap.ratio(samples[0], 0.99, samples[1], 0.99))
