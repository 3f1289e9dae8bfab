"""The conditions for believing a tenant's figures, each in a file of its own; those that fail give a caution."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kts.model.summary import Caution
from kts.stats import alone, cautions, fitness, starts, steadiness, traced
from kts.stats.depends_cautions import of_dependence
from kts.stats.view import TenantView


def _of_starts(view: TenantView) -> Iterator[Caution]:
    return starts.of_tenant(view.name, view.gathered.starts.of(view.name), view.samples["shared"]["response"])


def _of_alone(view: TenantView) -> Iterator[Caution]:
    return alone.of_tenant(view.name, view.summary.activity or ())


def _of_fitness(view: TenantView) -> Iterator[Caution]:
    return fitness.of_tenant(view.info, view.name)


def _of_steadiness(view: TenantView) -> Iterator[Caution]:
    return steadiness.of_tenant(view.name, view.steadiness)


CHECKS: tuple[Callable[[TenantView], Iterator[Caution]], ...] = (
    _of_fitness,
    _of_steadiness,
    cautions.of_tenant,
    _of_alone,
    _of_starts,
    of_dependence,
    traced.of_tenant,
    cautions.of_mixes,
)
"""In the order in which their cautions are told."""


def of_tenant(view: TenantView) -> Iterator[Caution]:
    """All cautions about one tenant."""
    for check in CHECKS:
        yield from check(view)
