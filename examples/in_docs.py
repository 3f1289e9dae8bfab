"""Tables between `<!-- NAME -->` and `<!-- /NAME -->` of a page: printed, written there, or checked against it."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

LEFT_OUT = "left out"
"""A cell that a check does not compute, and so does not compare."""
NUMBER = re.compile(r"[-+]?\d+\.?\d*")


def put(page: Path, tables: Mapping[str, str], mode: str, *, slack: float = 0.0) -> None:
    """``mode``: empty (print), --write, or --check, which exits if the page holds other tables.

    ``slack``: numbers may differ by it and by a tenth of it relatively, as another version of numpy may make them.
    """
    if not mode:
        print("\n".join(tables.values()), end="")
        return
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        place = re.compile(rf"(?<=<!-- {name} -->\n).*(?=<!-- /{name} -->)", re.DOTALL)
        found = place.search(text)
        if found is None:
            sys.exit(f"{page}: no place for the table {name!r}")
        if mode == "--write":
            text = place.sub(lambda _, table=table: table, text)  # type: ignore[misc]
        elif _differ(found.group(), table, slack):
            sys.exit(f"{page.name} holds another table {name!r}; run: python {sys.argv[0]} --write")
    if mode == "--write":
        page.write_text(text, encoding="utf-8")


def _differ(held: str, made: str, slack: float) -> bool:
    cells = [re.split(r"[|\n]", text) for text in (held, made)]
    pairs = [(a, b) for a, b in zip(*cells, strict=False) if LEFT_OUT not in b]
    return len(cells[0]) != len(cells[1]) or any(_unlike(a, b, slack) for a, b in pairs)


def _unlike(a: str, b: str, slack: float) -> bool:
    if NUMBER.sub("#", a) != NUMBER.sub("#", b):
        return True
    pairs = zip(NUMBER.findall(a), NUMBER.findall(b), strict=True)
    return any(abs(float(x) - float(y)) > slack * (1 + 0.1 * abs(float(x))) for x, y in pairs)
