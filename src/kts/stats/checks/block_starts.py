"""Are the beginnings of blocks in the tail?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kts.model.checks import Check
from kts.model.reading import RunData
from kts.stats import starts
from kts.stats.checks.told import failed, not_applicable, passed, tail_moves

if TYPE_CHECKING:
    from kts.stats.gathering import Gathered
    from kts.stats.view import TenantView

CODE = "block-starts"


def of_run(run: RunData, gathered: Gathered) -> Iterator[Check]:
    """Interleaved runs of an older kts began every block with all tenants at once."""
    del gathered
    info = run.info
    if starts.together(info):
        text = (
            "An older kts measured this. All its tenants began each block at the same instant, so they met there more "
            "often than by themselves, and these meetings are in the tail. Measure it again for figures without them."
        )
        yield failed(CODE, "started-together", f"schema {info.schema}", text)


def of_tenant(view: TenantView) -> Iterator[Check]:
    """By how many shared blocks begin with one of the slowest 1 % (`kts.stats.starts`); p99 may be off by what it would
    be without them."""
    name, firsts = view.name, view.gathered.starts.of(view.name)
    sample = view.samples["shared"]["response"]
    if sample is None or not firsts:
        yield not_applicable(CODE, f"{name}: no iteration of it counts as shared.", name)
        return
    slow, by_chance = starts.slow_firsts(firsts, sample), starts.TAIL * len(firsts)
    figure = f"{slow} of {len(firsts)}"
    if starts.too_many(slow, len(firsts)):
        text = (
            f"{name}: {slow} of {len(firsts)} shared blocks begin with one of its slowest 1 % of iterations; by chance "
            f"{by_chance:.2g} would. The tail holds the beginnings of blocks; longer blocks dilute them."
        )
        off = tail_moves(sample, starts.TAIL + slow / sample.n)
        yield failed(CODE, "block-starts", figure, text, name, off=off)
    else:
        text = f"{name}: {figure} shared blocks begin with one of its slowest 1 %; by chance {by_chance:.2g} would."
        yield passed(CODE, figure, text, name)
