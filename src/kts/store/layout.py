"""Names of the files in a run directory. Their formats: docs/formats.md."""

from __future__ import annotations

RUN = "run.json"
EVENTS = "events.jsonl"
JOURNAL = "records.journal"
PARQUET = "records.parquet"
TELEMETRY_JOURNAL = "telemetry.journal"
TELEMETRY = "telemetry.parquet"
LOGS = "logs"
LOCK = "run.lock"
RESERVE = ".reserve"
TEMPORARY = ".tmp"
"""Suffix of a file that is being written and will be renamed."""

SCAFFOLD = frozenset({LOCK, RESERVE, RUN + TEMPORARY})
"""What a run that died while it was being created may have left."""

OURS = frozenset(
    {
        RUN,
        EVENTS,
        JOURNAL,
        PARQUET,
        PARQUET + TEMPORARY,
        TELEMETRY_JOURNAL,
        TELEMETRY,
        TELEMETRY + TEMPORARY,
        LOGS,
        *SCAFFOLD,
    }
)
REPORTS = frozenset({"summary.json", "summary.csv", "results.md", "report.html", "plots"})
REPLACEABLE = OURS | REPORTS
"""All that ``--overwrite`` may delete; a file of any other name stays."""
