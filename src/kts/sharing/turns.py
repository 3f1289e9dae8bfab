"""Contexts of their own, which take turns: nothing is to be prepared, but no tenant may become a client of MPS.

CUDA looks for an MPS daemon in the directory of pipes, by default one that is the same for all: whoever finds one
there is its client, unasked. So tenants are sent to a directory that is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kts.model.plan import InMode
from kts.sharing import folders
from kts.sharing.port import Held
from kts.worker.sharing import PIPE

KIND = "no-mps"


@contextmanager
def prepared(arms: Sequence[InMode]) -> Iterator[Held]:
    """See `kts.sharing.port.Sharing`."""
    with folders.own(KIND) as empty:
        yield Held({name: {PIPE: str(empty)} for arm in arms for name in arm.tenants.values()})
