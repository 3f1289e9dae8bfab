"""`kts compare`: two sides of one or several runs each, or the runs of one side together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kts.cli.options import Json
from kts.errors import UsageError

if TYPE_CHECKING:
    from kts.model.summary import Summary

WITH = "--with"
"""Stands between the two sides. It is no option of its own, so that shells may write many runs on either side of it."""
SETTINGS = {"ignore_unknown_options": True}
"""For the command: `WITH` reaches it where it stands."""


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... [--with RUN...]",
            help="Run directories, directories of logs, or summary.json files. Two: B against A. More: those before "
            "--with are A, those after it B.",
            show_default=False,
        ),
    ],
    *,
    threshold: Annotated[
        float,
        typer.Option(min=0, max=10, help="A difference counts from here on, as a share: 0.05 is 5 %."),
    ] = 0.05,
    pool: Annotated[
        bool, typer.Option("--pool", help="No sides: all runs together, and how much they differ.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare two runs, or several a side, tenant by tenant.

    Says what changed by more than --threshold, and whether the data support it. kts compare A1 A2 --with B1 B2 also
    knows how much two runs of one experiment differ anyway.
    """
    from kts.cli.output import console, print_json
    from kts.report import print_comparison, print_pool
    from kts.stats import compare as compare_summaries
    from kts.stats.comparison import pool as pool_summaries

    sides = _sides(runs, pool=pool)
    summaries = [[_summary(path) for path in side] for side in sides]
    _refuse_copies([one for side in summaries for one in side])
    if pool:
        pooled = pool_summaries(summaries[0])
        if as_json:
            print_json(pooled)
        print_pool(pooled, console(stderr=as_json))
        return
    comparison = compare_summaries(summaries[0], summaries[1], threshold)
    if as_json:
        print_json({"sentence": comparison.sentence, **_fields(comparison)})
    print_comparison(comparison, console(stderr=as_json))


def _fields(struct: object) -> dict[str, object]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}  # type: ignore[attr-defined]


def _sides(words: list[str], *, pool: bool) -> list[list[Path]]:
    """The runs of A and of B, or with ``pool`` all of them. UsageError where that is not said."""
    for word in words:
        if word.startswith("-") and word != WITH:
            raise UsageError(f"no option {word}", "kts compare --help")
    if words.count(WITH) > 1 or (pool and WITH in words):
        raise UsageError(
            f"{WITH} stands between two sides" if pool else f"{WITH} is there more than once",
            "kts compare A1 A2 --with B1 B2, or kts compare --pool R1 R2 R3",
        )
    at = words.index(WITH) if WITH in words else 1 if len(words) == 2 and not pool else len(words)
    sides = [[Path(word) for word in side if word != WITH] for side in (words[:at], words[at:])]
    given = [*sides[0], *sides[1]]
    if pool:
        sides = [given]
        if len(given) < 2:
            raise UsageError("--pool: one run alone does not tell how much runs differ", "give more of them")
    elif not all(sides):
        raise UsageError(
            f"{len(given)} run{'s' if len(given) > 1 else ''}: which are side A, and which B?",
            f"kts compare A1 A2 {WITH} B1 B2; all as one side: --pool",
        )
    return sides


def _refuse_copies(runs: list[Summary]) -> None:
    """UsageError where one run stands for two that would show how much runs differ. Two runs alone may be the same."""
    for number, one in enumerate(runs if len(runs) > 2 else []):
        if any(one.tenants == other.tenants for other in runs[:number]):
            raise UsageError(
                f"{one.run} is there twice", "a copy does not tell how much runs differ: give each run once"
            )


def _summary(path: Path) -> Summary:
    """The figures of a run: read from a summary.json, or computed anew from a directory."""
    if not path.is_file():
        from kts.stats import analyse
        from kts.store import open_run

        return analyse(open_run(path)).summary
    return _read_summary(path)


def _read_summary(path: Path) -> Summary:
    from kts import files
    from kts.model.summary import SUMMARY_VERSION, Summary

    remedy = "give a run directory, or a summary.json that this version of kts wrote"
    raw = files.read(path, remedy)
    return files.decode(raw, Summary, str(path), "not a summary.json", remedy, newest=SUMMARY_VERSION)
