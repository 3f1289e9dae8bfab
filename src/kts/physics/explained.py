"""What `kts explain` says: frozen values, its JSON. See docs/explain.md."""

from __future__ import annotations

import msgspec

from kts.model.causes import Causes
from kts.model.summary import Latency
from kts.physics.forecast import Band, ModelError
from kts.stats.moments import Moment
from kts.stats.pinned import Pinned
from kts.stats.waited import Waited


class Foreseen(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says of one change: the tenant's response p99 (ms), with its band. ``change``: empty for no
    change. All are made with the same draws, so that what differs is not luck."""

    change: str
    p99: Band


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant under one condition. ``alone``, ``together``: its response time. ``causes``: null where the run has
    none. ``worst``: its slowest iterations, the slowest first. ``foreseen``: no change first; empty where the model
    cannot say, ``unforeseen`` then says why. ``pinned``: what a core of its own would change at most; null where nobody
    measured whether its host waited for one. ``threads``: those that waited longest for a core in company."""

    tenant: str
    alone: Latency
    together: Latency
    causes: Causes | None
    worst: tuple[Moment, ...]
    foreseen: tuple[Foreseen, ...] = ()
    unforeseen: str = ""
    pinned: Pinned | None = None
    threads: tuple[Waited, ...] = ()


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """What predictions are made from, in words, and what their bands hold: as in a prediction file; ``without_turns``:
    the error in those of modes without turns."""

    made_from: str
    seconds: float
    confidence: float
    model_error: ModelError
    without_turns: ModelError | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One condition of a run. ``basis``: null where nothing was predicted. ``unforeseen``: what
    the model cannot say of any tenant, one line each."""

    run: str
    experiment: str
    device: str
    mode: str
    condition: str
    on_cpu: bool
    tenants: tuple[Explained, ...]
    basis: Basis | None = None
    unforeseen: tuple[str, ...] = ()
