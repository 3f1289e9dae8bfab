"""The gate: are SLOs kept, and has a tail got worse?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Unpack

from rich.console import Console

from kts.app.comparisons import AnyRun, refuse_copies, several, summary_of
from kts.app.handle import Run, load
from kts.app.measuring import measured
from kts.app.plans import Asked, Changes, Preview, planned, previewed
from kts.app.printing import elements
from kts.errors import SetupError, UsageError
from kts.model.gate import TOLERANCE, Gate
from kts.model.plan import Plan
from kts.model.summary import Summary
from kts.plan import pair
from kts.report import markdown
from kts.report.document import Document
from kts.report.gate import gate_elements
from kts.report.junit import as_junit
from kts.report.writing import write_file
from kts.spec import LoadedExperiment
from kts.stats import analyse, gate

elements.register(Gate, gate_elements)


def check(
    new: AnyRun | Sequence[AnyRun],
    against: AnyRun | Sequence[AnyRun] = (),
    *,
    slo: Mapping[str, float] | None = None,
    tolerance: float = TOLERANCE,
) -> Gate:
    """Whether a run keeps its SLOs; with ``against``, whether tails have got worse than there by over ``tolerance``.

    ``new``: a run; with ``against`` one or several runs or summary.json files, as `compare` takes them. ``slo``:
    milliseconds by ``TENANT.p99`` (or ``.p50``, ``.p95``, ``.p99.9``), in place of the experiment's and besides them.
    `Gate.judgement` is pass, fail or inconclusive. DataError for what cannot be read or holds no figures, UsageError
    for runs of other tenants, and for a run without SLOs.
    """
    before, after = several(against), several(new)
    if before:
        if slo:
            raise UsageError("SLOs or an older run: which of the two?", "ask one after the other")
        if pairs := [one.directory for one in map(_run, [*after, *before]) if one is not None and one.gate is not None]:
            raise UsageError(f"{pairs[0]} is the run of a pair, which is compared in itself", f"kts check {pairs[0]}")
        sides = [[summary_of(one) for one in side] for side in (after, before)]
        refuse_copies([*sides[0], *sides[1]])
        return gate.against_old(sides[0], sides[1], tolerance, _measured_s([*after, *before]))
    if len(after) != 1:
        raise UsageError(
            f"SLOs are checked of one run, not of {len(after)}", "give one, or an older run with --against"
        )
    if isinstance(after[0], Summary) or (isinstance(after[0], str | Path) and str(after[0]).endswith(".json")):
        raise UsageError("SLOs need the records of a run, not only its summary.json", "give the run directory")
    run = load(after[0])
    if run.gate is not None:
        if slo:
            raise UsageError(f"{run.directory} is the run of a pair, which has no SLOs", f"kts check {run.directory}")
        return run.gate
    run.check_figures()
    limits = _limits(run, slo or {})
    return gate.against_slos(
        run.summary, lambda confidence: analyse(run.data, confidence=confidence).summary, limits, measured_s(run)
    )


def check_pair(
    a: Asked,
    b: Asked,
    out: str | Path | None = None,
    *,
    tolerance: float = TOLERANCE,
    overwrite: bool = False,
    telemetry: bool = True,
    progress: Console | None = None,
    **changes: Unpack[Changes],
) -> Run:
    """Measures two versions of an experiment in turns in one run: is a tenant's shared p99 worse in ``b`` than in ``a``
    by more than ``tolerance``? Ends when that is decided, or ``max_seconds`` (A's by default) are over.

    The other arguments are those of `run`. What it comes to is `check` of the run that is returned, whatever ended it.
    SpecError for mistakes in an experiment, UsageError where the two do not have the same tenants.
    """
    (first, second), plan = _pair(a, b, tolerance, changes)
    text = "".join(f"# {side}: {one.source}\n{one.text.rstrip()}\n---\n" for side, one in (("A", first), ("B", second)))
    return measured(plan, text, out, overwrite=overwrite, telemetry=telemetry, progress=progress)


def preview_pair(a: Asked, b: Asked, *, tolerance: float = TOLERANCE, **changes: Unpack[Changes]) -> Preview:
    """What `check_pair` will do, before anything is measured. Errors as there."""
    return previewed(_pair(a, b, tolerance, changes)[1])


def _pair(a: Asked, b: Asked, tolerance: float, changes: Changes) -> tuple[list[LoadedExperiment], Plan]:
    """Both experiments, and the plan that measures them."""
    loaded, (ours, theirs) = zip(*(planned(one, changes) for one in (a, b)), strict=True)
    return list(loaded), pair(ours, theirs, tolerance=tolerance, max_seconds=changes.get("max_seconds"))


def write_junit(result: Gate, path: str | Path) -> Path:
    """Writes JUnit XML, a test case per criterion. SetupError where it cannot be written."""
    return write_file(Path(path), as_junit(result))


def append_summary(result: Gate, path: str | Path) -> Path:
    """Appends the result as Markdown: what GitHub shows of the file in $GITHUB_STEP_SUMMARY. SetupError where it
    cannot be written."""
    text = markdown.render(Document(tuple(gate_elements(result)), title=f"kts check: {result.judgement}"))
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror or error}", "give a path you may write to") from error
    return Path(path)


def measured_s(run: Run) -> float:
    """Seconds that its valid blocks took."""
    return sum(block.end_ns - block.start_ns for block in run.data.blocks if block.valid) / 1e9


def _measured_s(runs: Iterable[AnyRun]) -> float | None:
    """Of all runs together; None where a summary.json does not tell."""
    loaded = [_run(one) for one in runs]
    return None if None in loaded else sum(measured_s(one) for one in loaded if one is not None)


def _run(one: AnyRun) -> Run | None:
    """None of what is only figures."""
    if isinstance(one, Summary) or (not isinstance(one, Run) and Path(one).is_file()):
        return None
    return load(one)


def _limits(run: Run, slo: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """The experiment's SLOs, and those given. UsageError where there are none, or one is no limit."""
    tenants = {one.name: one.slo.p99_ms for one in run.info.plan.tenants if one.name in run.info.plan.asked}
    limits = {(name, "p99"): limit for name, limit in tenants.items() if limit is not None}
    for key, limit in slo.items():
        name, _, quantile = key.partition(".")
        if quantile not in gate.QUANTILE_FIELDS:
            raise UsageError(f"--slo {key}: must be TENANT.p99, .p50, .p95 or .p99.9", "for example fft.p99=25")
        if not 0 < limit < float("inf"):
            raise UsageError(f"--slo {key}: {limit} is no number of milliseconds above 0", "for example fft.p99=25")
        limits[name, quantile] = limit
    if not limits:
        raise UsageError(
            f"{run.directory}: no tenant of this run has an SLO (there are: {', '.join(tenants)})",
            "--slo TENANT.p99=MS, or slo: {p99_ms: MS} in the experiment",
        )
    return limits
