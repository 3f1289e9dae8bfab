"""The run directory: written while measuring, read back for reports."""

from kts.store.creation import create
from kts.store.reader import Run, open_run
from kts.store.writer import RunWriter

__all__ = ["Run", "RunWriter", "create", "open_run"]
