"""Tenants of ours as threads of one process, each on a stream of its own in the process's one context.

The backend puts them into one process (`kts.model.plan.Plan.crews`); `kts.worker.crew` carries them and proves it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kts.model.plan import InMode
from kts.sharing.port import Held

CONNECTIONS = "CUDA_DEVICE_MAX_CONNECTIONS"
MOST_CONNECTIONS = 32
"""Hardware queues that a context may have. By default it has 8, and streams of one queue wait for each other."""


@contextmanager
def prepared(arms: Sequence[InMode]) -> Iterator[Held]:
    """See `kts.sharing.port.Sharing`: nothing is there that would have to be put back. Whose stream has priority, the
    backend tells each."""
    yield Held({name: {CONNECTIONS: str(MOST_CONNECTIONS)} for arm in arms for name in arm.tenants.values()})
