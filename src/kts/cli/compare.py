"""`kts compare`: two runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kts.cli.options import Json

if TYPE_CHECKING:
    from kts.model.summary import Summary

_Side = Annotated[Path, typer.Argument(help="A run directory, a directory of logs, or a summary.json.")]


def compare(a: _Side, b: _Side, as_json: Json = False) -> None:
    """Compare two runs, tenant by tenant.

    Says what changed, and whether the intervals support it.
    """
    from kts.cli.output import console, print_json
    from kts.report import print_comparison
    from kts.stats import compare as compare_summaries

    comparison = compare_summaries(_summary(a), _summary(b))
    if as_json:
        print_json(comparison)
    print_comparison(comparison, console(stderr=as_json))


def _summary(path: Path) -> Summary:
    """The figures of a run: read from a summary.json, or computed anew from a directory."""
    if not path.is_file():
        from kts.stats import analyse
        from kts.store import open_run

        return analyse(open_run(path)).summary
    return _read_summary(path)


def _read_summary(path: Path) -> Summary:
    import msgspec

    from kts.errors import DataError
    from kts.model.summary import SUMMARY_VERSION, Summary

    remedy = "give a run directory, or a summary.json that this version of kts wrote"
    try:
        raw = path.read_bytes()
        head = msgspec.json.decode(raw)
        version = head.get("schema") if isinstance(head, dict) else None
        if isinstance(version, int) and version > SUMMARY_VERSION:
            raise DataError(f"{path}: written by a newer kts (schema {version})", "update kts")
        return msgspec.json.decode(raw, type=Summary)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", remedy) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a summary.json: {error}", remedy) from error
