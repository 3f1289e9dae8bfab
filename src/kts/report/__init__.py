"""Tables, figures and pages: documents, and what shows them. Figures load their renderer only when they are drawn."""

from rich.console import Console

from kts.model.reading import RunData
from kts.model.summary import Summary
from kts.report import markdown, terminal
from kts.report.comparison import print_comparison, print_pool
from kts.report.schema import summary_schema
from kts.report.sections import run_document
from kts.report.watch import RichWatcher
from kts.report.writing import write

__all__ = ["RichWatcher", "print_comparison", "print_pool", "print_summary", "results_md", "summary_schema", "write"]


def print_summary(summary: Summary, console: Console) -> None:
    """Prints device and run, latency and rate tables, verdicts, refusals and cautions."""
    terminal.render(run_document(summary), console)


def results_md(run: RunData, summary: Summary) -> str:
    """The report as GitHub Markdown, without pictures."""
    return markdown.render(run_document(summary, run))
