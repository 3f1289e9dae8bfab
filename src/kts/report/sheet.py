"""A document's figures as CSV. Pure: text out, no files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from kts.report.document import Data, Datum, Document

_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a formula begins with in some spreadsheet; the last four are wide forms of the first."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
COLUMNS = ("tenant", "clock", "condition", "figure", "estimate", "lo", "hi", "unit", "refused")


def render(document: Document) -> str:
    """The text of summary.csv: one figure per line, columns `COLUMNS`; tenant by tenant, then those of several.

    ``condition`` is solo, shared, df or collided, or the name of a mix besides the full house; figures that belong to
    no clock have an empty ``clock``. What was added has the condition ``added`` (``added MIX`` besides the full house),
    its parts the figures ``p99:first-turn`` etc. Telemetry is ``source:scope:metric``, a mean over the tenant's
    iterations; with ``:block_mean`` over whole blocks; ``:covered`` is the share of the iterations' time that samples
    cover. Of what has a role there is a line per block, whose condition ends in its number.
    Refused figures have empty cells and the reason in ``refused``. Text that a spreadsheet would take for a formula has
    an apostrophe in front.
    """
    lines: dict[str | None, list[list[str]]] = {}
    for element in document.shown("csv"):
        if isinstance(element, Data):
            rows = ([_short(cell) for cell in _row(element.subject, datum)] for datum in element.data)
            lines.setdefault(None if element.several else element.subject, []).extend(rows)
    of_several = lines.pop(None, [])
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(line for of_one in lines.values() for line in of_one)
    writer.writerows(of_several)
    return out.getvalue()


def _row(subject: str, of: Datum) -> Sequence[str | float | None]:
    return (subject, of.clock, of.condition, of.figure, of.estimate, of.lo, of.hi, of.unit, of.refused)


def _short(cell: str | float | None) -> str:
    """Nine digits: below a nanosecond in a second, and the same on every machine."""
    return "" if cell is None else f"{cell:.9g}" if isinstance(cell, float) else _no_formula(str(cell))


def _no_formula(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULAS) and not _NUMBER.fullmatch(text) else text
