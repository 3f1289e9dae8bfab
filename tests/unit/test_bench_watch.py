"""Simulated tenants that come and go: what `python -m bench watch` prints, in small."""

from __future__ import annotations

import numpy as np
from bench.visits import service_ms, stretch, watched
from bench.watch import TENANTS, _confounded, come_and_go

from kts.watch.watching import Watching


def test_df_of_natural_windows_is_that_of_a_run() -> None:
    """Else what `kts watch` tells of production would contradict an experiment with the same pair."""
    rng = np.random.default_rng(11)
    tenants = {"own": TENANTS["fft"], "other": TENANTS["gemm"]}
    alone = service_ms(stretch({"own": tenants["own"]}, rng, 100)["own"])
    both = service_ms(stretch(tenants, rng, 100)["own"])
    cost = watched(tenants, come_and_go(rng, ("other",), 4), 11).cost
    for figure, p in ((cost.df50, 0.5), (cost.df99, 0.99)):
        assert figure.estimate is not None
        assert abs(figure.estimate / (np.quantile(both, p) / np.quantile(alone, p)) - 1) < 0.05


def test_own_load_that_comes_with_neighbours_is_not_claimed() -> None:
    """Else a busy hour would be the neighbours' fault."""
    for grows, always in (("length", False), ("pace", True)):
        watching = Watching()
        for piece in _confounded(np.random.default_rng(1), grows, always=always, visits_=3):
            watching.take(piece)
        cost = next(unit for unit in watching.now(whole=True).units if unit.unit == "own (1)").cost
        assert cost.df99.refused, grows
