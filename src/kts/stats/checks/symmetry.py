"""Does A meet B as long as B meets A? Then the iterations that count are the same stretch of time for both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtr

from kts.model.checks import Check
from kts.stats.activity import Busy
from kts.stats.block import MeasuredBlock, Rows
from kts.stats.checks.told import failed, not_applicable, passed, percent
from kts.stats.overlap import Ints

if TYPE_CHECKING:
    from kts.stats.view import TenantView

CODE = "symmetry"
FIRST = 20_000
"""Iterations of a tenant that are looked at in a block: from there on the block is cut, for all."""
UNEQUAL = 0.05
P_VALUE = 0.01
FEWEST = 3
"""Blocks; fewer show no spread, and `UNEQUAL_ANYHOW` is asked."""
UNEQUAL_ANYHOW = 0.2


class Meetings:
    """For how long, in each block of the full house, the tenant's iterations that count had one of a neighbour in
    flight beside them."""

    def __init__(self) -> None:
        self._met_ns: dict[tuple[str, str], list[float]] = {}

    def feed(self, block: MeasuredBlock) -> None:
        """See Pass."""
        if block.side != "shared":
            return
        end_ns = min((_cut_ns(row) for row in block.rows.values() if len(row.service)), default=0)
        there = {name: _busy(row, block.outcome.start_ns, end_ns) for name, row in block.rows.items()}
        for name, row in block.kept.items():
            begin, end = _stretches(row, block.outcome.start_ns, end_ns)
            for other, busy in there.items():
                if other != name and len(block.rows[other].service):
                    met_ns = float(busy.within(begin, end).sum())
                    self._met_ns.setdefault((name, other), []).append(met_ns)

    def of(self, tenant: str) -> Mapping[str, tuple[list[float], list[float]]]:
        """By neighbour: for how long (ns, a value per block) the tenant met it, and it the tenant."""
        return {
            other: (met_ns, self._met_ns.get((other, tenant), []))
            for (name, other), met_ns in self._met_ns.items()
            if name == tenant
        }


def of_tenant(view: TenantView) -> Iterator[Check]:
    """By the time of its meetings with each neighbour, as its own figures have them and as the neighbour's have them. A
    tail of such meetings may be off by as much as they differ."""
    name, shares = view.name, {}
    for other, (mine, its) in view.gathered.meetings.of(view.name).items():
        if sum(mine) + sum(its) > 0 and len(mine) == len(its):
            shares[other] = unequal(mine, its)
    if not shares:
        yield not_applicable(CODE, f"{name}: it met no neighbour whose iterations are recorded.", name)
        return
    bad = {other: share for other, (share, differs) in shares.items() if differs}
    for other, share in bad.items():
        more, less = (other, name) if share > 0 else (name, other)
        text = (
            f"{more} meets {less} for {percent(abs(share))} longer than {less} meets {more}: their iterations that "
            "count are not of the same times. Longer blocks would do."
        )
        yield failed(CODE, "meetings-differ", percent(abs(share)), text, name, off=abs(share))
    if not bad:
        most = max((abs(share) for share, _ in shares.values()))
        text = f"{name}: the times for which it and its neighbours met are the same on both sides to {percent(most)}."
        yield passed(CODE, percent(most), text, name)


def unequal(mine: list[float], its: list[float]) -> tuple[float, bool]:
    """By what share ``its`` sum exceeds that of ``mine`` (below 0: falls short), of the longer one; and whether that is
    over `UNEQUAL` and more than blocks differ by chance (paired t-test)."""
    apart = np.array(its) - np.array(mine)
    share = float(apart.sum() / max(sum(mine), sum(its)))
    if len(apart) < FEWEST:
        return share, abs(share) > UNEQUAL_ANYHOW
    deviation = float(apart.std(ddof=1)) / np.sqrt(len(apart))
    t = abs(float(apart.mean())) / deviation if deviation > 0 else np.inf
    return share, abs(share) > UNEQUAL and 2 * float(stdtr(len(apart) - 1, -t)) < P_VALUE


def _cut_ns(row: Rows) -> int:
    """Until when the tenant's iterations are looked at."""
    submit_ns = row.span.submit_ns
    return int(submit_ns[FIRST] if len(submit_ns) > FIRST else row.span.retire_ns.max())


def _busy(row: Rows, start_ns: int, end_ns: int) -> Busy:
    until = int(np.searchsorted(row.span.submit_ns, end_ns, side="left"))
    return Busy(row.span.submit_ns[:until], row.span.retire_ns[:until], max(end_ns - start_ns, 0), start_ns)


def _stretches(row: Rows, start_ns: int, end_ns: int) -> tuple[Ints, Ints]:
    """Begin and end of the times in which one of ``row`` is in flight, none twice; relative to ``start_ns``."""
    until = int(np.searchsorted(row.span.submit_ns, end_ns, side="left"))
    begin, end = (times[:until] - start_ns for times in (row.span.submit_ns, row.span.retire_ns))
    end = np.minimum(np.maximum.accumulate(end), end_ns - start_ns) if until else end
    begin = np.maximum(begin, np.append(begin[:1], end[:-1])) if until else begin
    return begin, np.maximum(begin, end)
