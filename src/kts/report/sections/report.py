"""What a section is made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kts.model.reading import RunData
from kts.model.summary import Summary
from kts.report import document as doc


@dataclass(frozen=True)
class Report:
    """The figures of a run, the run itself where it is there, and the pictures that were drawn."""

    summary: Summary
    run: RunData | None = None
    figures: tuple[doc.Figure, ...] = ()


Section = Callable[[Report], Iterator[doc.Element]]
