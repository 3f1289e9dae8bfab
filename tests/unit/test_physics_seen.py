"""DF99 by the model, of a pod that is never alone."""

from __future__ import annotations

import numpy as np
from bench.foreseen import TURNS
from bench.visits import service_ms, stretch, visits
from bench.watch import TENANTS

from kts.physics.seen import FEWEST, foretold
from kts.stats.natural import KEPT, SeenUnit
from kts.watch.watching import ByModel, Watching


def test_who_is_never_alone_gets_the_models_figure() -> None:
    """Else the pods that share most would be those of which nothing is told."""
    rng = np.random.default_rng(12)
    tenants = {"own": TENANTS["fft"], "other": TENANTS["gemm saturating"]}
    alone, both = (service_ms(stretch(mix, rng, 60)["own"]) for mix in ({"own": tenants["own"]}, tenants))
    watching = Watching(foretell=lambda own, others: ByModel(foretold(own, others, TURNS)))
    for piece in visits(tenants, [(40.0, ("own", "other"))], 12):
        watching.take(piece)
    cost = next(one for one in watching.now(whole=True).units if one.unit == "sim/own").cost
    assert cost.df99.refused
    figure = cost.foretold_df99
    assert figure is not None
    low, told, high = (value or 0.0 for value in (figure.lo, figure.estimate, figure.hi))
    assert low < np.quantile(both, 0.99) / np.quantile(alone, 0.99) < high
    assert told > 1.3


def test_of_whom_little_is_seen_nothing_is_foretold() -> None:
    """Else a figure would be made up."""
    seen = SeenUnit("a", np.zeros(0, KEPT), np.zeros(FEWEST - 1, KEPT), 10.0, 30.0, 0.5)
    assert foretold(seen, (seen,), TURNS) is None
    assert foretold(seen, (), TURNS) is None
