"""The run directory: written while measuring, read back for reports."""

from kts.store.creation import create
from kts.store.reader import StoredRun, open_run
from kts.store.writer import RunWriter

__all__ = ["RunWriter", "StoredRun", "create", "open_run"]
