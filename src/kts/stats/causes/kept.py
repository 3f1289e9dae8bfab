"""What the decomposition needs of a run: of every tenant and condition some thousand iterations of each block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kts.model.reading import RunData
from kts.model.telemetry import SampleSeries
from kts.stats.block import MeasuredBlock, Rows, valid_blocks
from kts.stats.causes.company import Floats, computed, shares
from kts.stats.causes.rates import RATES, Rates
from kts.stats.neighbours import uninvited
from kts.stats.overlap import PORTION, Ints, Span, every
from kts.stats.sample import ranked
from kts.units import NS_PER_MS

TAIL_FROM = 0.9
MOST = 4000
"""Of a block's iterations below its own `TAIL_FROM` quantile, and again of those above."""
MOST_IN_ALL = 50_000
"""Of a tenant under one condition, over all its blocks: of each of many blocks fewer than `MOST` are kept."""


@dataclass(frozen=True, eq=False)
class KeptRows:
    """Iterations of one tenant under one condition, in order of time; ms, shape ``(n,)`` unless said.

    ``response`` = ``backlog`` (due until its own earlier ones had retired) + ``late`` (from then until it was
    submitted) + ``service``. ``device``: NaN without a stopwatch. ``before``, ``during``: by neighbour,
    ``(neighbours, n)``, the time in flight (`company.shares`) until the device's stopwatch began and since, all of it
    in ``during`` without a stopwatch; on a core the CPU time (`company.computed`) while this one was late, and since it
    was submitted. ``core_wait``: ready, without a core; ``waited``: for the device, of a traced program; NaN where that
    is not told. ``rates``: what went on at that time, a row for each of `RATES`, NaN where nobody told. ``weight``: for
    how many of the run's an iteration stands. ``round``: its block's; ``place``: where it is in its block, 0 to 1.
    ``switched``: 1 where a neighbour had something in flight since its own last one, or in it, else 0. ``beside``: 1
    where one had as it was submitted.
    """

    neighbours: tuple[str, ...]
    response: Floats
    backlog: Floats
    late: Floats
    service: Floats
    device: Floats
    before: Floats
    during: Floats
    core_wait: Floats
    waited: Floats
    rates: Floats
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

    def rate(self, name: str) -> Floats:
        """One row of ``rates``."""
        return np.asarray(self.rates[RATES.index(name)])

    @property
    def met(self) -> np.ndarray:
        """Which ran while a neighbour was in flight, shape ``(n,)``."""
        return np.asarray((self.before + self.during).sum(axis=0) > 0)


class KeptIterations:
    """A Pass: `KeptRows` of every tenant, by condition. ``strangers``: processes of no tenant that were seen.
    ``on_core``: tenants whose device is a core, and whose stopwatch is their thread's CPU time."""

    def __init__(self, run: RunData, telemetry: Sequence[SampleSeries]) -> None:
        info = run.info
        self.strangers = tuple(uninvited(run))
        self._parts: dict[tuple[str, str], list[KeptRows]] = {
            (name, condition.name): [] for condition in info.plan.conditions for name in condition.tenants
        }
        blocks = Counter(block.condition for block in valid_blocks(run))
        self._most = {name: max(1, min(MOST, MOST_IN_ALL // count)) for name, count in blocks.items()}
        in_thread = {tenant.name for tenant in info.plan.tenants if tenant.work.in_thread}
        self.on_core = {worker.tenant for worker in info.workers if worker.device.kind == "cpu"} & in_thread
        self._rates = Rates(info, telemetry)

    def feed(self, block: MeasuredBlock) -> None:
        """See Pass."""
        for name, row in block.rows.items():
            keep = block.counts[name].keep
            response = row.response[keep]
            if len(response):
                picked, weight = _some(response, self._most[block.outcome.condition])
                at = picked + (keep.start or 0) if isinstance(keep, slice) else np.flatnonzero(keep)[picked]
                rows = self._rows(name, block, at, weight)
                self._parts[name, block.outcome.condition].append(rows)

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

    def _rows(self, name: str, block: MeasuredBlock, at: Ints, weight: Floats) -> KeptRows:
        row = block.rows[name]
        submit_ns, retire_ns = row.span.submit_ns[at], row.span.retire_ns[at]
        service, device, response = (
            values[at].astype(np.float64) for values in (row.service, row.device, row.response)
        )
        waited = np.maximum(response - service, 0.0)
        backlog = np.minimum(waited, np.maximum(waited - _idle(row, at), 0.0))
        late = response - service - backlog
        neighbours = tuple(other for other in block.rows if other != name)
        spans = [block.spans[other] for other in neighbours]
        if name in self.on_core:
            since_ns, started_ns = submit_ns - _ns(late), submit_ns
            used = [(block.rows[other].span, block.rows[other].device) for other in neighbours]
            before, during = (
                computed(used, row.span, *times) for times in ((since_ns, submit_ns), (submit_ns, retire_ns))
            )
        else:
            started_ns = submit_ns + _ns(np.nan_to_num(np.maximum(service - device, 0.0)))
            before, during = (shares(spans, *times) for times in ((submit_ns, started_ns), (started_ns, retire_ns)))
        return KeptRows(
            neighbours=neighbours,
            response=response,
            backlog=backlog,
            late=late,
            service=service,
            device=device,
            before=before,
            during=during,
            core_wait=_told(row, "cpu_wait_ns", at),
            waited=_told(row, "waited_ns", at),
            rates=self._rates.at(name, neighbours, submit_ns, retire_ns, block.outcome.start_ns),
            weight=weight,
            round=np.full(len(at), block.outcome.round),
            block=np.full(len(at), block.outcome.index),
            place=at / len(row.service),
            switched=_flying(spans, row.span.retire_ns[np.maximum(at - 1, 0)], retire_ns),
            beside=_flying(spans, submit_ns, submit_ns + 1),
        )


def _some(response: np.ndarray, most: int) -> tuple[Ints, Floats]:
    """Places of iterations, in order of time, and for how many each stands: all of few, else every so many-th of the
    faster ones and of the slower ones, ``most`` of each."""
    n = len(response)
    if n <= 2 * most:
        return np.arange(n), np.ones(n)
    edge = ranked(response, int(TAIL_FROM * n))
    faster = sum(int(np.count_nonzero(response[first : first + PORTION] < edge)) for first in range(0, n, PORTION))
    places, weights = [], []
    halves = (lambda here: response[here] < edge, faster), (lambda here: response[here] >= edge, n - faster)
    for half, size in halves:
        step = max(1, -(-size // most))  # a half is empty where ties begin at the edge
        picked = every(n, half, step, step // 2)
        places.append(picked)
        weights.append(np.full(len(picked), size / max(len(picked), 1)))
    order = np.argsort(np.concatenate(places), kind="stable")
    return np.concatenate(places)[order], np.concatenate(weights)[order]


def _idle(row: Rows, at: Ints) -> Floats:
    """Milliseconds before its submission in which nothing of its own was in flight."""
    reached = _reached(row.span.retire_ns, np.maximum(at - 1, 0))
    idle = np.maximum(row.span.submit_ns[at] - reached, 0) / NS_PER_MS
    return np.asarray(np.where(at > 0, idle, np.inf))


def _reached(values: Ints, at: Ints) -> Ints:
    """The largest of the values up to each place; ``at`` rises."""
    found, most = np.empty(len(at), np.int64), np.iinfo(np.int64).min
    for first in range(0, len(values), PORTION):
        here = slice(*np.searchsorted(at, [first, first + PORTION]))
        reaches = np.maximum(np.maximum.accumulate(values[first : first + PORTION]), most)
        found[here] = reaches[at[here] - first]
        most = reaches[-1]
    return found


def _flying(neighbours: list[Span], since_ns: Ints, until_ns: Ints) -> Floats:
    """1 where a neighbour had something in flight between, else 0."""
    met = shares(neighbours, np.minimum(since_ns, until_ns), until_ns).sum(axis=0) > 0
    return np.asarray(met, dtype=np.float64)


def _told(row: Rows, column: str, at: Ints) -> Floats:
    values = row.told.get(column)
    return np.full(len(at), np.nan) if values is None else values[at].astype(np.float64)


def _ns(ms: Floats) -> Ints:
    return (ms * NS_PER_MS).astype(np.int64)
