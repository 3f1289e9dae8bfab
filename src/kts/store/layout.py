"""Names of the files in a run directory. Their formats: docs/formats.md."""

from __future__ import annotations

import re

from kts.files import TEMPORARY

RUN = "run.json"
EVENTS = "events.jsonl"
JOURNAL = "records.journal"
PARQUET = "records.parquet"
TELEMETRY_JOURNAL = "telemetry.journal"
TELEMETRY = "telemetry.parquet"
LOGS = "logs"
CLUSTER = "cluster.json"
SHARING = "sharing.json"
LOCK = "run.lock"
RESERVE = ".reserve"
SCAFFOLD = frozenset({LOCK, RESERVE})
OURS = frozenset({RUN, EVENTS, JOURNAL, PARQUET, TELEMETRY_JOURNAL, TELEMETRY, LOGS, CLUSTER, SHARING, *SCAFFOLD})
_UNFINISHED = re.compile(rf"\.?(.+?)(?:\.\d+-\d+)?{re.escape(TEMPORARY)}")
REPORTS = frozenset({"summary.json", "summary.csv", "results.md", "report.html", "plots", "modes.json", "modes"})
REPLACEABLE = OURS | REPORTS
"""With their unfinished files all that ``--overwrite`` may delete; a file of any other name stays."""


def is_scaffold(name: str) -> bool:
    """What a run that died while it was being created may have left."""
    return name in SCAFFOLD or is_unfinished(name, RUN)


def is_unfinished(name: str, *of: str) -> bool:
    """A file ``of`` one of these names that was being written when something died."""
    found = _UNFINISHED.fullmatch(name)
    return found is not None and found[1] in of
