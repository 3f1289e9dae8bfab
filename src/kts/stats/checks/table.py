"""Every check, in the order in which they are told, and what of them is a caution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from kts.model.checks import Check
from kts.model.reading import RunData
from kts.model.summary import Caution
from kts.stats.checks import (
    alignment,
    alone,
    as_asked,
    block_starts,
    clocks,
    company,
    conservation,
    cores,
    drift,
    keeps_up,
    lost_records,
    observer,
    overlap,
    phase_lock,
    same_gpu,
    samples,
    steady,
    symmetry,
)
from kts.stats.gathering import Gathered
from kts.stats.view import TenantView


class Asked(NamedTuple):
    """Who asks a check of the whole run, and of each tenant. One that has both tells of the run what is wrong alone."""

    of_run: Callable[[RunData, Gathered], Iterator[Check]] | None = None
    of_tenant: Callable[[TenantView], Iterator[Check]] | None = None


CHECKS: dict[str, Asked] = {
    same_gpu.CODE: Asked(of_run=same_gpu.of_run),
    alignment.CODE: Asked(of_run=alignment.of_run),
    company.CODE: Asked(of_run=company.of_run),
    as_asked.CODE: Asked(of_tenant=as_asked.of_tenant),
    lost_records.CODE: Asked(lost_records.of_run, lost_records.of_tenant),
    steady.CODE: Asked(of_tenant=steady.of_tenant),
    alone.CODE: Asked(of_tenant=alone.of_tenant),
    overlap.CODE: Asked(of_tenant=overlap.of_tenant),
    symmetry.CODE: Asked(of_tenant=symmetry.of_tenant),
    block_starts.CODE: Asked(block_starts.of_run, block_starts.of_tenant),
    phase_lock.CODE: Asked(of_tenant=phase_lock.of_tenant),
    keeps_up.CODE: Asked(of_tenant=keeps_up.of_tenant),
    clocks.CODE: Asked(of_tenant=clocks.of_tenant),
    cores.CODE: Asked(of_tenant=cores.of_tenant),
    drift.CODE: Asked(drift.of_run, drift.of_tenant),
    conservation.CODE: Asked(conservation.of_run, conservation.of_tenant),
    observer.CODE: Asked(of_tenant=observer.of_tenant),
    samples.CODE: Asked(of_tenant=samples.of_tenant),
}
"""By code."""


def of_run(run: RunData, gathered: Gathered) -> Iterator[Check]:
    """All checks of the whole run."""
    for asked in CHECKS.values():
        if asked.of_run is not None:
            yield from asked.of_run(run, gathered)


def of_tenant(view: TenantView) -> Iterator[Check]:
    """All checks of one tenant."""
    for asked in CHECKS.values():
        if asked.of_tenant is not None:
            yield from asked.of_tenant(view)


def cautions(checks: Iterable[Check]) -> Iterator[Caution]:
    """What they caution against, for readers of ``warnings``."""
    for check in checks:
        if check.caution:
            yield Caution(code=check.caution, text=check.text, tenant=check.tenant)
