"""Predicts what is already measured: the published table, and the shared blocks of the runs in examples/results.

python examples/05_predict_shared.py            prints the tables
python examples/05_predict_shared.py --write    puts them into docs/physics.md
python examples/05_predict_shared.py --check    exits 1 if docs/physics.md holds other ones
python examples/05_predict_shared.py --why      what the errors come from, of all runs or of those named
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ending import mode, plain
from in_docs import put
from kts.errors import UsageError
from kts.model.reading import RunData
from kts.model.run import RunInfo
from kts.physics import published
from kts.physics.fitted import model_error
from kts.physics.predict import Effort, Predictor
from kts.physics.recorded import gpu_of, measured, mix_seconds, profile_of
from kts.physics.validate import MODEL, Score, score
from kts.physics.values import Fingerprint, Interval, Iterations, Profile, make_profile
from kts.report.forecasts import band
from kts.stats.steadiness import since_ns
from kts.store import open_run

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "physics.md"
SLICE_MS, PREEMPT_MS, YIELD_MS = 2.087, 0.178, 0.1
"""Of the H200, found before these runs were made; not fitted to them."""
PUBLISHED_SLICES_MS = (2.0, 2.2, 2.4)


def published_table() -> str:
    """Shared p95 and p99 of the published table, predicted with each slice; means from the published throughput."""
    lines = ["| slice ms | tenant | p95 predicted, published | error | p99 predicted, published | error | mean added |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|")
    for slice_ms in PUBLISHED_SLICES_MS:
        predictor = Predictor(published.profiles(), published.fingerprint(slice_ms), Effort(replicates=2))
        for name, tenant in predictor.mix(["fft", "gemm"]).tenants.items():
            cells = [f"{slice_ms:g}", name]
            for figure, true in zip(("p95", "p99"), published.SHARED_MS[name][1:], strict=True):
                value = getattr(tenant.device, figure).value
                cells += [f"{value:.2f}, {true:.2f}", f"{100 * (value / true - 1):+.1f} %"]
            solo_hz, shared_hz = published.PROXY_HZ[name]
            more = tenant.device.mean.value - tenant.solo_device.mean
            cells.append(f"{more:.2f}, {1000 / shared_hz - 1000 / solo_hz:.2f}")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def scored(run: RunData) -> Score:
    """The run's shared blocks, predicted from its solo blocks, for as long as they were measured."""
    steady_ns = since_ns(run)
    profiles = {tenant.name: profile_of(run, tenant.name, steady_ns=steady_ns) for tenant in run.info.plan.tenants}
    return scored_with(run, profiles, steady_ns=steady_ns)


def scored_with(
    run: RunData, profiles: dict[str, Profile], replicates: int = 100, steady_ns: Mapping[str, int] | None = None
) -> Score:
    """The same from other profiles."""
    exact = Interval.exact
    mark = Fingerprint(
        gpu=gpu_of(run),
        mode=run.info.sharing.name,
        slice_ms=exact(SLICE_MS),
        preempt_ms=(exact(PREEMPT_MS),),
        yield_ms=(exact(YIELD_MS),),
        source="assumed",
    )
    predictor = Predictor(profiles, mark, Effort(replicates=replicates), model_error(mark))
    mixes, measured_for = [mix.tenants for mix in run.info.plan.mixes], mix_seconds(run)
    return score(predictor.predict(mixes, seconds=[measured_for["+".join(mix)] for mix in mixes]), run, steady_ns)


def recorded_tables(scores: dict[str, Score]) -> str:
    """One row per run and tenant, then the errors over all of them."""
    lines = ["| run | tenant | mean | p50 | p95 | p99 predicted (90 % band) | measured | error | device p99 |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, found in scores.items():
        device = {t.tenant: _errors(t.figures) for t in found.tenants if t.clock == "device"}
        for tenant in (t for t in found.tenants if t.clock == "response"):
            errors = _errors(tenant.figures)
            p99 = next((f for f in tenant.figures if f.figure == "p99"), None)
            cells = [name, tenant.tenant, *(errors.get(figure, "-") for figure in ("mean", "p50", "p95"))]
            cells += [band(p99.predicted), f"{p99.measured:.2f}"] if p99 else ["-", "-"]
            cells += [errors.get("p99", "-"), device.get(tenant.tenant, {}).get("p99", "-")]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *_totals(list(scores.values()))]) + "\n"


def _totals(scores: Sequence[Score]) -> list[str]:
    lines = ["| rule | mean: mean error | p50: median | p95: median | p99: median | p99: 90 % | p99: worst |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    figures = [f for found in scores for t in found.tenants if t.clock == "response" for f in t.figures]
    for rule in (MODEL, "df-1", "n-times-solo"):
        errors = {
            name: np.abs([f.error if rule == MODEL else f.rules[rule] for f in figures if f.figure == name])
            for name in ("mean", "p50", "p95", "p99")
        }
        shown = [errors["mean"].mean(), *(np.median(errors[name]) for name in ("p50", "p95", "p99"))]
        shown += [np.quantile(errors["p99"], 0.9), errors["p99"].max()]
        lines.append(f"| {rule} | " + " | ".join(f"{100 * value:.1f} %" for value in shown) + " |")
    held = [f.inside for f in figures if f.inside is not None]
    lines += ["", f"Measured figures inside their 90 % bands: {sum(held)} of {len(held)}."]
    return lines


def _errors(figures: Sequence[object]) -> dict[str, str]:
    return {f.figure: f"{100 * f.error:+.1f} %" for f in figures}  # type: ignore[attr-defined]


def why(directory: str, run: RunData) -> str:
    """Two experiments, neither of them a prediction, because both look at the shared blocks.

    First: a part of each solo iteration as long as the device clock's median falls when shared is taken to be host
    time before the kernel. Second: how many of the slowest 1 % (device time) are the first of their block, when
    both tenants begin at once.
    """
    mixes, profiles = measured(run), {}
    for tenant in (tenant.name for tenant in run.info.plan.tenants):
        profile = profile_of(run, tenant)
        alone, shared = profile.solo_device.ms, next(m[tenant].device_ms for m in mixes.values() if tenant in m)
        lead, n = max(float(np.median(alone) - np.median(shared)), 0.0), profile.iterations.n
        offsets, kernels = np.zeros(2 * n), np.zeros(2 * n)  # a launch of length 0 at submission: the stopwatch
        offsets[1::2], kernels[1::2] = lead, profile.iterations.duration_ms - lead
        them = Iterations(np.arange(n + 1) * 2, offsets, kernels, profile.iterations.retire_ms)
        profiles[tenant] = make_profile(tenant, them, profile.gpu, arrivals=profile.arrivals)
    lines = []
    for found in (t for t in scored_with(run, profiles, 0).tenants if t.clock == "response"):
        slowest = sorted(
            (
                (float(row["device_ms"]), int(row["i"]))
                for block in run.blocks
                if block.valid and not run.info.plan.condition(block.condition).is_solo
                for row in run.records(found.tenant, block.index)
            ),
            reverse=True,
        )[: max(1, round(found.iterations / 100))]
        first = sum(i == 0 for _, i in slowest)
        lines.append(
            f"{directory} {found.tenant}: p50 error {_errors(found.figures)['p50']}; "
            f"of the slowest {len(slowest)} by device time {first} are the first of their block"
        )
    return "\n".join(lines)


def is_time_sliced(info: RunInfo) -> bool:
    """True for a run on a time-sliced GPU: the only kind that these figures of a slice are for."""
    return info.sharing.name == "time-slicing" and all(worker.device.kind == "cuda" for worker in info.workers)


def main(asked: str) -> None:
    """Prints, writes or checks."""
    runs = {path.parent.name: open_run(path.parent) for path in sorted(RESULTS.glob("*/run.json"))}
    runs = {name: run for name, run in runs.items() if is_time_sliced(run.info)}
    if asked == "--why":
        named = sys.argv[2:] or list(runs)
        if unknown := set(named).difference(runs):
            raise UsageError(f"no such run: {', '.join(sorted(unknown))}", f"those of {RESULTS}: {', '.join(runs)}")
        print("\n".join(why(name, runs[name]) for name in named))
        return
    made = {
        "published": published_table(),
        "recorded": recorded_tables({name: scored(run) for name, run in runs.items()}),
    }
    put(PAGE, made, asked, slack=0.1)


if __name__ == "__main__":
    with plain():
        main(mode("--why"))
