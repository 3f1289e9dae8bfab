"""What sharing cost each tenant, in a sentence."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.summary import Verdict
from kts.report import cells
from kts.report import document as doc
from kts.report.sections.report import Report


def section(report: Report) -> Iterator[doc.Element]:
    """Kind and sentence; in a terminal always with the tenant's name."""
    verdicts = {name: tenant.verdict for name, tenant in report.summary.tenants.items()}
    yield doc.Heading("What sharing cost", "verdicts", media=doc.FILES)
    if verdicts:
        yield doc.Bullets(tuple(_item(verdict, verdict.sentence) for verdict in verdicts.values()), media=doc.FILES)
        named = (_item(v, cells.about(name, v.sentence)) for name, v in verdicts.items())
        yield doc.Bullets(tuple(named), media=doc.TERMINAL)


def _item(verdict: Verdict, sentence: str) -> doc.Item:
    return doc.Item(sentence, cells.verdict_word(verdict), verdict.kind, dimmed=bool(verdict.dimmed))
