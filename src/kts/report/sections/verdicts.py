"""What sharing cost each tenant, in a sentence."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.summary import Verdict
from kts.report import cells
from kts.report.document import FILES, TERMINAL, Bullets, Element, Heading, Item
from kts.report.sections.report import Report


def section(report: Report) -> Iterator[Element]:
    """Kind and sentence; in a terminal always with the tenant's name."""
    verdicts = {name: tenant.verdict for name, tenant in report.summary.tenants.items()}
    yield Heading("What sharing cost", "verdicts", media=FILES)
    if verdicts:
        yield Bullets(tuple(_item(verdict, verdict.sentence) for verdict in verdicts.values()), media=FILES)
        named = (_item(v, cells.about(name, v.sentence)) for name, v in verdicts.items())
        yield Bullets(tuple(named), media=TERMINAL)


def _item(verdict: Verdict, sentence: str) -> Item:
    return Item(sentence, cells.verdict_word(verdict), verdict.kind, dimmed=bool(verdict.dimmed))
