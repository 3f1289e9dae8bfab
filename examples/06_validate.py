"""Predicts the mixes in examples/validation from how each tenant behaves alone, and scores that by what was measured.

python examples/06_validate.py            prints the tables
python examples/06_validate.py --write    puts them into docs/physics.md, and the pictures into docs/images
python examples/06_validate.py --check    exits 1 if docs/physics.md holds other ones (bands: of the hardest way)
python examples/06_validate.py --check-errors    the same of all errors of all mixes and ways; bands of the development
                                          set alone, with one error of shared times and one of times alone
python examples/06_validate.py --why      what each part of the model is worth, and what the host did meanwhile
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from ending import mode, plain
from in_docs import LEFT_OUT, put
from kts import __version__
from kts.physics.kinds import KINDS
from kts.physics.rules import PROCESSOR_SHARING
from kts.physics.validate import MODEL, SCORED, FigureScore, Score, TenantScore
from validation_data import (
    EVALUATION,
    OTHER,
    WAYS,
    Way,
    errors_of,
    far,
    figures_of,
    held,
    middle,
    percent,
    scores,
    share,
    tenants_of,
)
from validation_fits import error_table, host_table, kernel_table, late_table

PAGE = Path(__file__).parents[1] / "docs" / "physics.md"
IMAGES = PAGE.parent / "images"
RULES = (PROCESSOR_SHARING, "df-1", "n-times-solo", "single-burst")
CHECK_ERRORS = "--check-errors"
BANDED = {"--check": (OTHER,), CHECK_ERRORS: ()}.get(sys.argv[-1], WAYS)
"""The ways that get bands: these are most of the work, and a check does without some of them, or all."""
RESAMPLED = 2000
SEED = 20


def by_way(way: Way) -> list[Score]:
    """The scores of both machines."""
    return [scores(BANDED)[machine.name, way.label] for machine in EVALUATION]


def both(text: Sequence[str]) -> str:
    """``2.1 / 1.9 %`` from one per machine."""
    return " / ".join(text).replace(" % /", " /")


def summary_table() -> str:
    """One row per machine and rule: errors over all tenants of all mixes, and how many bands hold."""
    heads = "mean: mean error | p99: median | p99: 90 % | DF99: median | DF99: 90 % | bands: times | bands: DF"
    lines = [f"| machine | predicted from | {heads} |", "|---|---|---:|---:|---:|---:|---:|---:|---:|"]
    for machine in EVALUATION:
        for way in WAYS:
            found = scores(BANDED)[machine.name, way.label]
            bands = [share(figures_of([found], clock)) for clock in ("response", "df")]
            lines.append(_row(machine.name, way.label, [*_cells(found, MODEL), *bands]))
        plain = scores(BANDED)[machine.name, OTHER.label]
        lines += [_row(machine.name, rule, [*_cells(plain, rule), "", ""]) for rule in RULES]
    lines += ["", "First rows, both machines: " + "; ".join(_bands(clock) for clock in ("response", "df")) + "."]
    return "\n".join(lines) + "\n"


def _bands(clock: str) -> str:
    every, tail = (held(figures_of(by_way(OTHER), clock, name)) for name in ("", "p99"))
    if not BANDED:
        return LEFT_OUT
    what = "times" if clock == "response" else "DF"
    return "bands of {} that hold: {} of {}, of p99 {} of {}".format(what, *every, *tail)


def _cells(found: Score, rule: str) -> list[str]:
    mean = errors_of(figures_of([found], "response", "mean"), rule)
    cells = [percent(float(mean.mean()))]
    for clock in ("response", "df"):
        errors = errors_of(figures_of([found], clock, "p99"), rule)
        cells += [middle(errors), far(errors)]
    return cells


def _row(*cells: str | Sequence[str]) -> str:
    flat = [part for cell in cells for part in ([cell] if isinstance(cell, str) else cell)]
    return "| " + " | ".join(flat) + " |"


def figures_table() -> str:
    """Each figure of the hardest way: response and DF, machine 1 / machine 2."""
    heads = " | ".join(f"{what}: n | median | 90 % | bands" for what in ("time", "DF"))
    lines = [f"| figure | {heads} |", "|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for name in SCORED:
        cells = []
        for clock in ("response", "df"):
            each = [figures_of([one], clock, name) for one in by_way(OTHER)]
            cells.append(both([str(len(them)) for them in each]))
            cells += _both_cells(each)
        lines.append(_row("p99.9" if name == "p999" else name, cells))
    return "\n".join(lines) + "\n"


def _both_cells(each: Sequence[list[FigureScore]]) -> list[str]:
    """Median, 90th percentile and bands of one list of figures per machine."""
    errors = [errors_of(them) for them in each]
    return [both([kind(e) for e in errors]) for kind in (middle, far)] + [both([share(them) for them in each])]


def kinds_table() -> str:
    """By kind of tenant and way: p99, DF99, and all bands; machine 1 / machine 2."""
    heads = "p99: median | 90 % | DF99: median | 90 % | bands: times | bands: DF"
    lines = [f"| kind | predicted from | tenants | {heads} |", "|---|---|---:|---:|---:|---:|---:|---:|---:|"]
    for kind in KINDS:
        for way in WAYS:
            found, cells = by_way(way), []
            for clock in ("response", "df"):
                cells += _both_cells([figures_of([one], clock, "p99", kind=kind) for one in found])[:2]
            cells += [
                both([share(figures_of([one], clock, kind=kind)) for one in found]) for clock in ("response", "df")
            ]
            n = both([str(sum(1 for _ in tenants_of([one], "response", kind=kind))) for one in found])
            lines.append(_row(kind, way.label, n, cells))
    return "\n".join(lines) + "\n"


def tenants_table() -> str:
    """By tenant, hardest way; then what the medians are worth, with tenants and mixes drawn anew."""
    heads = "p99: median | DF99: median | bands: times | bands: DF"
    lines = [f"| tenant | kind | mixes | {heads} |", "|---|---|---:|---:|---:|---:|---:|"]
    found = by_way(OTHER)
    for name in (t.name for t in EVALUATION[0].run.info.plan.tenants):
        own = [[replace(one, tenants=tuple(t for t in one.tenants if t.tenant == name))] for one in found]
        rows = list(tenants_of(own[0], "response"))
        cells = [both([middle(errors_of(figures_of(o, clock, "p99"))) for o in own]) for clock in ("response", "df")]
        cells += [both([share(figures_of(o, clock)) for o in own]) for clock in ("response", "df")]
        lines.append(_row(name, rows[0].kind, str(len(rows)), cells))
    lines += [
        "",
        "95 % intervals with tenants and mixes drawn anew, machine 1; 2: " + "; ".join(_clustered(found)) + ".",
    ]
    return "\n".join(lines) + "\n"


def _clustered(found: Sequence[Score]) -> list[str]:
    """Median error of p99 and DF99 and the bands that hold: bootstrap over two crossed factors (Owen 2007)."""
    parts = []
    for what, clock in (("p99", "response"), ("DF99", "df")):
        spans = []
        for one in found:
            rows = [(t, f) for t in tenants_of([one], clock) for f in t.figures if f.figure == "p99"]
            spans.append(_interval(rows))
        parts.append(f"median of {what} {'; '.join(spans)}")
    return parts


def _interval(rows: Sequence[tuple[TenantScore, FigureScore]]) -> str:
    rng = np.random.default_rng(SEED)
    tenants, tenant = np.unique([t.tenant for t, _ in rows], return_inverse=True)
    mixes, mix = np.unique([t.mix for t, _ in rows], return_inverse=True)
    errors = np.array([abs(f.error) for _, f in rows])
    order = np.argsort(errors)
    medians = []
    for _ in range(RESAMPLED):
        drawn = [np.bincount(rng.integers(0, n, n), minlength=n) for n in (len(tenants), len(mixes))]
        weight = np.cumsum((drawn[0][tenant] * drawn[1][mix])[order])
        if weight[-1]:
            medians.append(errors[order][np.searchsorted(weight, weight[-1] / 2)])
    low, high = np.quantile(medians, [0.025, 0.975])
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def mixes_table() -> str:
    """One row per mix: the error of each tenant's p99 on both machines, hardest way."""
    lines = ["| mix | error of p99, machine 1 / machine 2 |", "|---|---|"]
    for mix in EVALUATION[0].run.info.plan.mixes:
        cells = [f"{name} {' / '.join(_p99(one, mix.tenants, name) for one in by_way(OTHER))}" for name in mix.tenants]
        label = " + ".join(mix.tenants) if len(mix.tenants) < 12 else "all 12"
        lines.append(f"| {label} | {', '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _p99(found: Score, mix: Sequence[str], tenant: str) -> str:
    one = next(t for t in tenants_of([found], "response") if t.tenant == tenant and set(t.mix.split("+")) == set(mix))
    figure = next((f for f in one.figures if f.figure == "p99"), None)
    return "-" if figure is None else f"{100 * figure.error:+.1f} %"


def pictures() -> dict[Path, bytes]:
    """Predicted against measured, hardest way, a picture per machine and theme."""
    from kts.report.charts_forecast import draw_score

    drawn: dict[Path, bytes] = {}
    for machine, found in zip(EVALUATION, by_way(OTHER), strict=True):
        name = machine.name
        shown = replace(found, tenants=tuple(_short(t) for t in found.tenants), run=f"evaluation, machine {name}")
        (figure,) = draw_score(shown, machine.run.info.workers[0].device.label, __version__)
        drawn |= {
            IMAGES / f"validation-h200-{name}-{file}": data for file, data in figure.files if file.endswith(".png")
        }
    return drawn


def _short(tenant: TenantScore) -> TenantScore:
    n = len(tenant.mix.split("+"))
    return tenant if n < 5 else replace(tenant, mix=f"{n} tenants")


def main(asked: str) -> None:
    """Prints, writes or checks."""
    if asked == "--why":
        from validation_why import why

        print(why())
        return
    made = {
        "validation": summary_table(),
        "validation-figures": figures_table(),
        "validation-kinds": kinds_table(),
        "validation-tenants": tenants_table(),
        "validation-mixes": mixes_table(),
        "kernel-gap": kernel_table(),
        "lateness": late_table(),
        "host-speed": host_table(),
        "model-error": error_table((0.01,), (0.05,)) if asked == CHECK_ERRORS else error_table(),
    }
    put(PAGE, made, "--check" if asked == CHECK_ERRORS else asked, slack=0.3)
    if asked == "--write":
        IMAGES.mkdir(exist_ok=True)
        for path, data in pictures().items():
            path.write_bytes(data)


if __name__ == "__main__":
    with plain():
        main(mode(CHECK_ERRORS, "--why"))
