"""One experiment on many nodes: which of them are not like the others.

On the log scale the middle is the median of the nodes' figures, and their spread sigma the median absolute deviation
from it, times 1.4826 (a normal's) and the factor for few values of Croux & Rousseeuw (1992); at least the nodes' own
median standard error. The band reaches 3.5 sigma to each side (Iglewicz & Hoaglin 1993), and at least as far as a
difference that counts (`kts.stats.comparison.THRESHOLD`). An outlier's figure lies outside of the band, and its own
interval does not hold the median.

A rule of thumb, and no test. Simulated fleets of 4 to 50 like nodes have a node named in 0 to 10 of 100 per figure; one
node that is 1.3 times the others is named in 9 of 10 fleets where nodes differ by 2 %, in half where they differ by
5 %, hardly where by 10 %. What half of the nodes share is not seen. A node is only ever unlike others of its own GPU
model, and below `FEWEST` nodes none is named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import msgspec
import numpy as np

from kts.model.fleet import Fleet, FleetNode
from kts.model.fleet_summary import FEWEST, FleetSummary, Hardware, Measured, NodeSummary, OverNodes
from kts.model.summary import Estimate, Summary, TenantSummary
from kts.shown import first_few
from kts.stats.comparison import THRESHOLD, other_work
from kts.stats.replicates import logs, unusable

REACH = 3.5
_NORMAL = 1.4826
_FEW = (1.196, 1.495, 1.363, 1.206, 1.200, 1.140, 1.129, 1.107)
"""Of 2 to 9 values; of more, n / (n - 0.8)."""


def summarise(
    fleet: Fleet, measured: Mapping[str, tuple[Summary, Hardware]], why: Mapping[str, str] | None = None
) -> FleetSummary:
    """The fleet's figures. ``measured``: of the nodes that have some, by name; ``why``: why others have not."""
    nodes = tuple(_node(one, measured.get(one.node), (why or {}).get(one.node, "")) for one in fleet.nodes)
    summaries = [summary for summary, _ in measured.values()]
    return FleetSummary(
        id=fleet.id,
        experiment=fleet.experiment,
        selector=fleet.selector,
        outcome=fleet.outcome.kind,
        confidence=min((one.confidence for one in summaries), default=0.95),
        headline_clock=summaries[0].headline_clock if summaries else "response",
        nodes=nodes,
        bands=tuple(_bands(nodes, measured)),
        notes=tuple(_notes(nodes, summaries)),
    )


def band(figures: Mapping[str, Estimate], confidence: float = 0.95) -> OverNodes:
    """The band of one figure, by node; without a name for what it is of."""
    there = {node: one for node, one in figures.items() if not unusable(one)}
    empty = OverNodes(gpu="", tenant="", figure="", nodes=len(there))
    if len(there) < FEWEST:
        return msgspec.structs.replace(empty, refused=f"outliers need {FEWEST} nodes that have it, here {len(there)}")
    values, errors = logs(list(there.values()), confidence)
    median = float(np.median(values))
    sigma = max(_spread(np.abs(values - median)), float(np.median(errors)))
    reach = max(REACH * sigma, math.log1p(THRESHOLD))
    lo, hi = math.exp(median - reach), math.exp(median + reach)
    middle = math.exp(median)
    out = tuple(node for node, one in there.items() if _outside(one, lo, hi) and _excludes(one, middle))
    return msgspec.structs.replace(empty, median=middle, lo=lo, hi=hi, outliers=out)


def _outside(figure: Estimate, lo: float, hi: float) -> bool:
    return figure.estimate is not None and not lo <= figure.estimate <= hi


def _excludes(figure: Estimate, value: float) -> bool:
    """Whether its interval does: a node whose own figure is vague is not named for being far away."""
    return figure.lo is not None and figure.hi is not None and not figure.lo <= value <= figure.hi


def _spread(away: np.typing.NDArray[np.float64]) -> float:
    n = len(away)
    few = _FEW[n - 2] if n - 2 < len(_FEW) else n / (n - 0.8)
    return float(np.median(away)) * _NORMAL * few


def _bands(nodes: Sequence[NodeSummary], measured: Mapping[str, tuple[Summary, Hardware]]) -> Iterator[OverNodes]:
    """Per GPU model and tenant, of the two figures."""
    there = sorted((one for one in nodes if one.device is not None), key=_gpu)
    for gpu, of in groupby(there, key=_gpu):
        alike = list(of)
        for tenant in dict.fromkeys(row.tenant for one in alike for row in one.tenants):
            rows = {one.node: row for one in alike for row in one.tenants if row.tenant == tenant}
            whole = [measured[node][0].tenants[tenant] for node in rows]
            confidence = min(measured[node][0].confidence for node in rows)
            for figure, values in (
                ("solo-p99", {node: row.solo_p99 for node, row in rows.items()}),
                ("df99", {node: row.df99 for node, row in rows.items()}),
            ):
                found = band(values, confidence)
                if figure == "solo-p99" and (other := other_work(whole)):
                    found = OverNodes(gpu="", tenant="", figure="", nodes=found.nodes, refused=other)
                yield msgspec.structs.replace(found, gpu=gpu, tenant=tenant, figure=figure)


def _gpu(one: NodeSummary) -> str:
    return one.device.name if one.device is not None else ""


def _node(one: FleetNode, found: tuple[Summary, Hardware] | None, why: str) -> NodeSummary:
    tenants: tuple[Measured, ...] = ()
    device = None
    if found is not None:
        summary, device = found
        tenants = tuple(_measured(summary, name, tenant) for name, tenant in summary.tenants.items())
    return NodeSummary(
        node=one.node, state=one.state, reason=one.reason, remedy=one.remedy, device=device, tenants=tenants, why=why
    )


def _measured(summary: Summary, name: str, tenant: TenantSummary) -> Measured:
    clock = getattr(tenant, summary.headline_clock)
    return Measured(tenant=name, solo_p99=clock.solo.p99, df99=clock.df.p99, device_df99=tenant.device.df.p99)


def _notes(nodes: Sequence[NodeSummary], summaries: Sequence[Summary]) -> Iterator[str]:
    """What is not the same on all nodes, and so may be why figures differ."""
    there = [(one.node, one.device) for one in nodes if one.device is not None]
    for what, read in (("GPU", "name"), ("driver", "driver"), ("sharing mode", "mode")):
        by_value: dict[str, list[str]] = {}
        for node, device in there:
            by_value.setdefault(getattr(device, read) or "unknown", []).append(node)
        if len(by_value) > 1:
            yield f"{what} differs: {'; '.join(f'{value} on {first_few(on, 6)}' for value, on in by_value.items())}"
    if many := [node for node, device in there if device.gpus > 1]:
        yield f"the tenants were not on one device on {first_few(many, 6)}"
    if len({one.experiment for one in summaries}) > 1:
        yield "the runs are not of one experiment"
