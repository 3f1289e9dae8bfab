"""Contexts of their own, which take turns: nothing is to be prepared, but no tenant may become a client of MPS.

CUDA looks for an MPS daemon in the directory of pipes, by default one that is the same for all: whoever finds one
there is its client, unasked. So tenants are sent to a directory that is empty.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from kts.model.mode import Mode
from kts.worker.sharing import PIPE


@contextmanager
def prepared() -> Iterator[Mapping[str, str]]:
    """See `kts.sharing.port.Sharing`."""
    with tempfile.TemporaryDirectory(prefix="kts-no-mps-") as empty:
        yield {PIPE: empty}


def variables(mode: Mode) -> Mapping[str, str]:
    """None: they have no settings."""
    del mode
    return {}
