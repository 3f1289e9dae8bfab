"""Two sides of one or several runs each, or the runs of one side together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kts import files
from kts.app.handle import Run, load
from kts.app.printing import elements
from kts.errors import UsageError
from kts.model.summary import SUMMARY_VERSION, Summary
from kts.report.comparison import comparison_elements, pool_elements
from kts.stats import comparison
from kts.stats.comparison import Comparison, Pool

AnyRun = str | Path | Run | Summary
"""A run directory, a directory of logs, a summary.json, or what was read of one."""

elements.register(Comparison, comparison_elements)
elements.register(Pool, pool_elements)


def compare(
    a: AnyRun | Sequence[AnyRun], b: AnyRun | Sequence[AnyRun], *, threshold: float = comparison.THRESHOLD
) -> Comparison:
    """B against A, tenant by tenant: what changed by more than ``threshold`` (a share), and whether the data say so.

    Several runs a side also tell how much two runs of one experiment differ anyway. DataError for what cannot be
    read, UsageError where one run is given twice.
    """
    before, after = ([summary_of(one) for one in several(side)] for side in (a, b))
    refuse_copies([*before, *after])
    return comparison.compare(before, after, threshold)


def pool(runs: Sequence[AnyRun]) -> Pool:
    """All runs of one experiment together, and how much they differ. Errors as `compare`."""
    summaries = [summary_of(one) for one in runs]
    if len(summaries) < 2:
        raise UsageError("one run alone does not tell how much runs differ", "give more of them")
    refuse_copies(summaries)
    return comparison.pool(summaries)


def several(side: AnyRun | Sequence[AnyRun]) -> Sequence[AnyRun]:
    """One side as a list of runs."""
    return [side] if isinstance(side, str | Path | Run | Summary) else side


def refuse_copies(runs: Sequence[Summary]) -> None:
    """UsageError where one run stands for two that would show how much runs differ. Two runs alone may be the same."""
    for number, one in enumerate(runs if len(runs) > 2 else []):
        if any(one.tenants == other.tenants for other in runs[:number]):
            raise UsageError(
                f"{one.run} is there twice", "a copy does not tell how much runs differ: give each run once"
            )


def summary_of(run: AnyRun) -> Summary:
    """The figures of a run: read from a summary.json, or computed anew from a directory."""
    if isinstance(run, Summary):
        return run
    if isinstance(run, str | Path) and Path(run).is_file():
        return _read_summary(Path(run))
    return load(run).summary


def _read_summary(path: Path) -> Summary:
    remedy = "give a run directory, or a summary.json that this version of kts wrote"
    raw = files.read(path, remedy)
    return files.decode(raw, Summary, str(path), "not a summary.json", remedy, newest=SUMMARY_VERSION)
