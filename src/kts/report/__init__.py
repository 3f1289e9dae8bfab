"""Tables, figures and pages from a summary. Figures load their renderer only when they are drawn."""

from kts.report.comparison import print_comparison, print_pool
from kts.report.tables import summary_schema
from kts.report.terminal import print_summary
from kts.report.watch import RichWatcher
from kts.report.writing import write

__all__ = ["RichWatcher", "print_comparison", "print_pool", "print_summary", "summary_schema", "write"]
