"""DF99 by the model, of tenants that are never alone, against what is true of them."""

from __future__ import annotations

import numpy as np

from bench.aggressors import NEIGHBOURS, OWN
from bench.visits import service_ms, stretch, visits
from kts.physics.seen import foretold
from kts.physics.simulate import SharingModel
from kts.watch.watching import ByModel, Watching

TURNS = SharingModel(slice_ms=2.087, preempt_ms=(0.178,), yield_ms=(0.14,), wake_ms=(0.14,))
"""As a probe has them of an H200 (docs/physics.md): not quite those of the simulated GPU."""

SEEN_S = 120.0
TRUTH_S = 400.0


def table(seed: int, trials: int) -> None:
    """Errors of the model and of *nothing changes*, and how many bands hold."""
    errors, nothing, held, refused, rows = [], [], [], 0, []
    for trial in range(trials):
        rng = np.random.default_rng([seed, trial])
        kind = str(rng.choice(sorted(OWN)))
        others = [str(name) for name in rng.choice(sorted(NEIGHBOURS), 1 + trial % 3, replace=False)]
        tenants = {"own": OWN[kind](rng), **{name: NEIGHBOURS[name](rng) for name in others}}
        alone, both = (
            float(np.quantile(service_ms(stretch(mix, rng, TRUTH_S)["own"]), 0.99))
            for mix in ({"own": tenants["own"]}, tenants)
        )
        watching = Watching(window_s=60, foretell=lambda own, those: ByModel(foretold(own, those, TURNS)))
        for piece in visits(tenants, [(SEEN_S, tuple(tenants))], int(rng.integers(1 << 30))):
            watching.take(piece)
        cost = next(one for one in watching.now(whole=True).units if one.unit == "sim/own").cost
        figure, true = cost.foretold_df99, both / alone
        told = "none"
        if figure is None or figure.estimate is None or figure.lo is None or figure.hi is None:
            refused += 1
        else:
            nothing.append(abs(1 / true - 1))
            errors.append(abs(figure.estimate / true - 1))
            held.append(figure.lo <= true <= figure.hi)
            told = f"{figure.estimate:.3g} ({figure.lo:.3g}-{figure.hi:.3g})"
        rows.append(f"| {kind} | {', '.join(others)} | {true:.3g} | {told} |")
    print("| tenant | beside | DF99 of a run | foretold |\n|---|---|---:|---:|")
    print("\n".join(rows))
    print("\n| | median error of DF99 | 90 % |\n|---|---:|---:|")
    for name, those in (("model", errors), ("nothing changes", nothing)):
        print(f"| {name} | {100 * np.median(those):.2g} % | {100 * np.quantile(those, 0.9):.2g} % |")
    print(f"\nOf {trials} mixes {refused} are refused; {sum(held)} of {len(held)} bands hold the truth.")
