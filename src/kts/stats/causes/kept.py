"""What the decomposition needs of a run: of every tenant and condition some thousand iterations of each block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kts.model.plan import Plan
from kts.stats.block import MeasuredBlock, Rows
from kts.stats.causes.company import Floats, shares
from kts.stats.overlap import Ints, Span
from kts.units import NS_PER_MS

TAIL_FROM = 0.9
MOST = 4000
"""Of a block's iterations below its own `TAIL_FROM` quantile, and again of those above."""


@dataclass(frozen=True, eq=False)
class KeptRows:
    """Iterations of one tenant under one condition, in order of time; ms, shape ``(n,)`` unless said.

    ``response`` = ``backlog`` (due until its own earlier ones had retired) + ``late`` (from then until it was
    submitted) + ``service``. ``device``: NaN without a stopwatch. ``before``, ``during``: by neighbour the time in
    flight (see `company.shares`), until the device's stopwatch began and since; all of it in ``during`` without a
    stopwatch; ``(neighbours, n)``. ``weight``: for how many of the run's an iteration stands. ``round``: its block's;
    ``place``: where it is in its block, 0 to 1. ``switched``: 1 where a neighbour had something in flight since its own
    last one, or in it, else 0. ``beside``: 1 where one had as it was submitted.
    """

    neighbours: tuple[str, ...]
    response: Floats
    backlog: Floats
    late: Floats
    service: Floats
    device: Floats
    before: Floats
    during: Floats
    weight: Floats
    round: Ints
    block: Ints
    place: Floats
    switched: Floats
    beside: Floats

    @property
    def n(self) -> int:
        """How many are kept."""
        return len(self.response)

    @property
    def rest(self) -> Floats:
        """Service time that is not on the device's stopwatch."""
        return self.service - self.device

    @property
    def met(self) -> np.ndarray:
        """Which ran while a neighbour was in flight, shape ``(n,)``."""
        return np.asarray((self.before + self.during).sum(axis=0) > 0)


class Kept:
    """A Pass: `KeptRows` of every tenant, by condition."""

    def __init__(self, plan: Plan) -> None:
        self._parts: dict[tuple[str, str], list[KeptRows]] = {
            (name, condition.name): [] for condition in plan.conditions for name in condition.tenants
        }

    def feed(self, block: MeasuredBlock) -> None:
        """See Pass."""
        for name, row in block.rows.items():
            counts = np.arange(len(row.service))[block.counts[name].keep]
            if len(counts):
                picked, weight = _some(row.response[counts])
                self._parts[name, block.outcome.condition].append(_rows(name, block, counts[picked], weight))

    def of(self, tenant: str, condition: str) -> KeptRows | None:
        """What was kept; None where nothing counts."""
        parts = self._parts[tenant, condition]
        if not parts:
            return None
        columns = {
            field: np.concatenate([getattr(part, field) for part in parts], axis=-1)
            for field in KeptRows.__dataclass_fields__
            if field != "neighbours"
        }
        return KeptRows(neighbours=parts[0].neighbours, **columns)


def _some(response: np.ndarray) -> tuple[Ints, Floats]:
    """Places of iterations, in order of time, and for how many each stands: all of few, else every so many-th of the
    faster ones and of the slower ones."""
    n = len(response)
    if n <= 2 * MOST:
        return np.arange(n), np.ones(n)
    edge = np.partition(response, int(TAIL_FROM * n))[int(TAIL_FROM * n)]
    places, weights = [], []
    for half in (np.flatnonzero(response < edge), np.flatnonzero(response >= edge)):
        step = -(-len(half) // MOST)
        picked = half[step // 2 :: step]
        places.append(picked)
        weights.append(np.full(len(picked), len(half) / max(len(picked), 1)))
    order = np.argsort(np.concatenate(places), kind="stable")
    return np.concatenate(places)[order], np.concatenate(weights)[order]


def _rows(name: str, block: MeasuredBlock, at: Ints, weight: Floats) -> KeptRows:
    row = block.rows[name]
    submit_ns, retire_ns = row.span.submit_ns[at], row.span.retire_ns[at]
    service, device, response = (values[at].astype(np.float64) for values in (row.service, row.device, row.response))
    waited = np.maximum(response - service, 0.0)
    backlog = np.minimum(waited, np.maximum(waited - _idle(row, at), 0.0))
    neighbours = tuple(other for other in block.rows if other != name)
    started_ns = submit_ns + (np.nan_to_num(np.maximum(service - device, 0.0)) * NS_PER_MS).astype(np.int64)
    spans = [block.spans[other] for other in neighbours]
    return KeptRows(
        neighbours=neighbours,
        response=response,
        backlog=backlog,
        late=response - service - backlog,
        service=service,
        device=device,
        before=shares(spans, submit_ns, started_ns),
        during=shares(spans, started_ns, retire_ns),
        weight=weight,
        round=np.full(len(at), block.outcome.round),
        block=np.full(len(at), block.outcome.index),
        place=at / len(row.service),
        switched=_flying(spans, row.span.retire_ns[np.maximum(at - 1, 0)], retire_ns),
        beside=_flying(spans, submit_ns, submit_ns + 1),
    )


def _idle(row: Rows, at: Ints) -> Floats:
    """Milliseconds before its submission in which nothing of its own was in flight."""
    reached = np.maximum.accumulate(row.span.retire_ns)[np.maximum(at - 1, 0)]
    idle = np.maximum(row.span.submit_ns[at] - reached, 0) / NS_PER_MS
    return np.asarray(np.where(at > 0, idle, np.inf))


def _flying(neighbours: list[Span], since_ns: Ints, until_ns: Ints) -> Floats:
    """1 where a neighbour had something in flight between, else 0."""
    met = shares(neighbours, np.minimum(since_ns, until_ns), until_ns).sum(axis=0) > 0
    return np.asarray(met, dtype=np.float64)
