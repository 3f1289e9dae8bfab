"""What of the model is fitted, from the development set alone: how long kernels are, how hosts wander, what is left.

Each table says what kts.physics.fitted holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from msgspec.structs import replace
from scipy import stats

from in_docs import LEFT_OUT
from kts.arrivals import Closed
from kts.model.records import clock_ms
from kts.physics.fitted import LATE_MS, MODEL_ERROR, TRACED_GAP_MS
from kts.physics.forecast import ModelError
from kts.physics.kinds import KINDS, kind_of
from kts.plan.blocks import block_seed
from kts.store import StoredRun
from kts.store.fingerprints import read
from validation_data import DEVELOPMENT, figures_of, held, predicted

SHARED = (0.01, 0.02, 0.03, 0.04, 0.05)
ALONE = (0.0, 0.02, 0.04, 0.05, 0.06, 0.08, 0.1)
REPLICATES = 40
FOUND = ModelError(kinds=dict.fromkeys(KINDS, 0.01), host=0.14, host_block=0.13, source="fitted")
"""As it comes out for the tenants of the development set, before it is widened for others; without the solo side."""
LONG_MS = 8.0
"""Think times as long as the pauses between arrivals of a moderate rate."""
QUEUED_MS = 3.0
"""An eager iteration that was submitted so long before its turn has handed over all of its launches."""


def kernel_table() -> str:
    """The eager tenants' turns in the full house, where all their kernels wait, beside what their trace says."""
    profiles, mark = DEVELOPMENT.profiles, read(DEVELOPMENT.folder / "fingerprint.json")
    lines = ["| tenant | launches | traced kernels | with launch gaps | turn seen | too long, per launch |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for name in ("eager-p", "eager-s"):
        them = profiles[name].iterations
        launches, busy = float(np.median(np.diff(them.first))), float(np.median(them.busy_ms))
        whole = busy + (launches - 1) * mark.launch_gap_ms.value
        turns = np.array(list(_turns(DEVELOPMENT.run, name))) - mark.yield_ms[0].value
        more = 1e3 * (whole - float(np.median(turns))) / launches
        lines.append(
            f"| {name} | {launches:.0f} | {busy:.3f} ms | {whole:.3f} ms | {np.median(turns):.3f} ms | {more:.2f} us |"
        )
    lines += ["", f"Used: {1e3 * TRACED_GAP_MS:.2f} us."]
    return "\n".join(lines) + "\n"


def _turns(run: StoredRun, tenant: str) -> Iterator[float]:
    """From the retirement before to the tenant's own (ms), where it followed at once and was all queued: a yielding
    switch and its turn. Longer than 1 ms: an unfinished turn of somebody else lay between."""
    whole = max(run.info.plan.mixes, key=lambda mix: len(mix.tenants))
    for block in run.blocks:
        if block.condition != whole.name:
            continue
        ends = np.sort(np.concatenate([run.records(name, block.index)["retire_ns"] for name in whole.tenants]))
        for row in run.records(tenant, block.index):
            place = int(np.searchsorted(ends, row["retire_ns"]))
            waited_ms = (row["retire_ns"] - row["submit_ns"]) / 1e6
            if place and waited_ms > QUEUED_MS and (turn := (row["retire_ns"] - ends[place - 1]) / 1e6) < 1.0:
                yield float(turn)


def late_table() -> str:
    """How long after the end of its think time each paced tenant went on: the draws of the run are made again."""
    names = [f"{100 * p:g} %" for p in LATE_MS]
    lines = [f"| tenant | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    run, found = DEVELOPMENT.run, {}
    for tenant in run.info.plan.tenants:
        if isinstance(tenant.arrivals, Closed) and tenant.arrivals.think_ms >= LONG_MS:
            found[tenant.name] = np.concatenate(list(_late(run, tenant.name, tenant.arrivals)))
    for name, sample in {**found, "all": np.concatenate(list(found.values()))}.items():
        lines.append(f"| {name} | {' | '.join(f'{value:.3f}' for value in np.quantile(sample, list(LATE_MS)))} |")
    lines.append(f"| used | {' | '.join(f'{value:.2f}' for value in LATE_MS.values())} |")
    return "\n".join(lines) + "\n"


def _late(run: StoredRun, name: str, arrivals: Closed) -> Iterator[np.ndarray]:
    for block in run.blocks:
        if name in run.info.plan.condition(block.condition).tenants:
            rows = run.records(name, block.index)
            rng = np.random.default_rng(block_seed(run.info.plan, block, name))
            pauses = rows["submit_ns"][1:] - rows["retire_ns"][:-1]
            low, high = (arrivals.think_ms * (1 + sign * arrivals.jitter) * 1e6 for sign in (-1, 1))
            yield (pauses - rng.uniform(low, high, len(pauses))) / 1e6  # as the worker of that run drew them


def host_table() -> str:
    """Host time of an iteration alone: in the profile, and in the run's two solo blocks."""
    lines = ["| tenant | kind | profile | first solo block | second solo block |", "|---|---|---:|---:|---:|"]
    logs, run = [], DEVELOPMENT.run
    for name, profile in DEVELOPMENT.profiles.items():
        busy = float(np.median(profile.iterations.busy_ms))
        before = float(np.median(profile.solo_service.ms)) - busy
        blocks = [b for b in run.blocks if run.info.plan.condition(b.condition).tenants == (name,)]
        now = [float(np.median(clock_ms(run.records(name, b.index), "service"))) - busy for b in blocks]
        logs.append(np.log(np.array(now) / before))
        cells = [f"{value:.3f} ms" for value in (before, *now)]
        lines.append(f"| {name} | {kind_of(profile)} | {' | '.join(cells)} |")
    every, more = np.array(logs), wider(len(logs))
    block = float(np.sqrt((np.diff(every) ** 2).mean() / 2))
    common = float(np.sqrt((every**2).mean() - block**2))
    lines += [
        "",
        f"Root mean square of ln(block / profile): {100 * np.sqrt((every**2).mean()):.1f} %; of that between ",
    ]
    lines[-1] += f"the two blocks {100 * block:.1f} %, of both against the profile {100 * common:.1f} %. Times "
    lines[-1] += f"{more:.2f} for {len(logs)} tenants: {100 * more * block:.1f} and {100 * more * common:.1f} %; used: "
    lines[-1] += f"{100 * MODEL_ERROR.host_block:g} and {100 * MODEL_ERROR.host:g} %."
    return "\n".join(lines) + "\n"


def error_table(shared: Sequence[float] = SHARED, alone: Sequence[float] = ALONE) -> str:
    """How many bands hold, by the error that is added to shared times, then to those alone, by kind. ``shared``,
    ``alone``: which of the errors are tried; what the others give, and what follows from all, is left out."""
    lines = [f"| bands | error | {' | '.join(KINDS)} |", f"|---|---:|{'---:|' * len(KINDS)}"]
    trials = {(SHARED, one): replace(FOUND, kinds=dict.fromkeys(KINDS, one)) for one in shared}
    trials |= {(ALONE, one): replace(FOUND, solo=dict.fromkeys(KINDS, one)) for one in alone}
    serves = {(SHARED, one): (ALONE, alone[0]) for one in shared if alone and FOUND.kinds == dict.fromkeys(KINDS, one)}
    """What is told of times alone changes no shared time: where these have the error of `FOUND`, one trial does."""
    run = [key for key in trials if key not in serves]
    with ProcessPoolExecutor(2) as pool:
        each = dict(zip(run, pool.map(_held, [trials[key] for key in run]), strict=True))
    found = {key: each[serves.get(key, key)]["response" if key[0] is SHARED else "df"] for key in trials}
    tenants = [sum(kind_of(p) == kind for p in DEVELOPMENT.profiles.values()) for kind in KINDS]
    for what, errors in (("response, of shared times", SHARED), ("DF, of times alone", ALONE)):
        for one in errors:
            cells = ["{} of {}".format(*cell) for cell in found.get((errors, one), ())] or [LEFT_OUT] * len(KINDS)
            lines.append(f"| {what} | {100 * one:g} % | {' | '.join(cells)} |")
    lines.append(f"| tenants | | {' | '.join(map(str, tenants))} |")
    for what, chosen, errors in (("shared times", MODEL_ERROR.kinds, SHARED), ("times alone", MODEL_ERROR.solo, ALONE)):
        rows = [(one, found[errors, one]) for one in errors if (errors, one) in found]
        best = [_closest([(relative, cells[k]) for relative, cells in rows]) for k in range(len(KINDS))]
        widened = [one * wider(n) for one, n in zip(best, tenants, strict=True)]
        close, wide = ([f"{100 * one:{form}} %" for one in of] for of, form in ((best, "g"), (widened, ".1f")))
        if len(rows) < len(errors):
            close = wide = [LEFT_OUT] * len(KINDS)
        lines.append(f"| closest to nine of ten, of {what} | | {' | '.join(close)} |")
        lines.append(f"| wider, of {what} | | {' | '.join(wide)} |")
        lines.append(f"| used, of {what} | | {' | '.join(f'{100 * chosen.get(kind, 0):g} %' for kind in KINDS)} |")
    return "\n".join(lines) + "\n"


def wider(tenants: int) -> float:
    """By what an error seen in so many tenants must be multiplied for one that is not among them: quantiles of
    Student's t with so many degrees of freedom and of the normal distribution, two-sided 90 %."""
    return float(stats.t.ppf(0.95, tenants) / stats.norm.ppf(0.95))


def _closest(rows: Sequence[tuple[float, tuple[int, int]]]) -> float:
    """The error with which closest to nine of ten bands hold; the smallest of those."""
    return min(rows, key=lambda row: (round(abs(row[1][0] / row[1][1] - 0.9), 6), row[0]))[0]


def _held(error: ModelError) -> dict[str, list[tuple[int, int]]]:
    """By clock and kind, how many bands hold."""
    found = [predicted(DEVELOPMENT, error=error, replicates=REPLICATES)]
    return {clock: [held(figures_of(found, clock, kind=kind)) for kind in KINDS] for clock in ("response", "df")}
