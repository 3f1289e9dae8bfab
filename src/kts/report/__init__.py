"""Tables, figures and pages: documents, and what shows them. Figures load their renderer only when they are drawn."""

from kts.model.reading import RunData
from kts.model.summary import Summary
from kts.report import markdown
from kts.report.sections import run_document
from kts.report.watch import RichWatcher
from kts.report.writing import write

__all__ = ["RichWatcher", "results_md", "run_document", "write"]


def results_md(run: RunData, summary: Summary) -> str:
    """The report as GitHub Markdown, without pictures."""
    return markdown.render(run_document(summary, run))
