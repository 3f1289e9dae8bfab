"""Tenants of ours as threads of one process, each on a stream of its own in the process's one context.

The backend puts them into one process (`kts.model.plan.Plan.crews`); `kts.worker.crew` carries them and proves it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from kts.model.mode import Mode

CONNECTIONS = "CUDA_DEVICE_MAX_CONNECTIONS"
MOST_CONNECTIONS = 32
"""Hardware queues that a context may have. By default it has 8, and streams of one queue wait for each other."""


@contextmanager
def prepared() -> Iterator[Mapping[str, str]]:
    """See `kts.sharing.port.Sharing`: nothing is there that would have to be put back."""
    yield {CONNECTIONS: str(MOST_CONNECTIONS)}


def variables(mode: Mode) -> Mapping[str, str]:
    """None: whose stream has priority, the backend tells each."""
    del mode
    return {}
