"""By whose turns the model tells what a watch does not measure: what `kts probe` kept of each GPU, or as given."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

from kts.model.mode import TIME_SLICING
from kts.physics.draws import sharing
from kts.physics.seen import foretold
from kts.physics.values import Fingerprint
from kts.stats.natural import SeenUnit
from kts.store import fingerprints
from kts.watch.watching import USUAL, ByModel, Foretell, TurnCosts, TurnsOf

Known = Callable[[str], Fingerprint | None]
"""How a GPU is shared, by its UUID, which is empty where nobody tells it; None where no probe told."""


def known(given: Path | None, driver: Callable[[], str]) -> Known:
    """What `kts probe` kept of each GPU; or the file ``given``, whichever GPU it was measured on.

    ``driver``: the node's; empty: nobody tells, and the latest that is kept of a GPU is taken. DataError for a file
    that is no fingerprint.
    """
    ours = None if given is None else fingerprints.read(given)
    folder, driver = fingerprints.directory(os.environ), cache(driver)
    return cache(lambda gpu: ours or _kept(gpu, driver(), folder))


def turns(of: Known) -> TurnsOf:
    """What a neighbour's turns take: `USUAL` where no probe told; of a GPU that is shared otherwise, no switches."""

    def told(gpu: str) -> TurnCosts:
        found = of(gpu)
        if found is None:
            return USUAL
        if found.mode != TIME_SLICING:
            return USUAL._replace(switches_ms=0.0)
        how = sharing(found)
        return TurnCosts(how.slice_ms, how.preempt_ms[0] + how.yield_ms[0])

    return told


def model(of: Known, driver: Callable[[], str]) -> Foretell:
    """The model, each GPU with its own turns."""

    def told(own: SeenUnit, others: tuple[SeenUnit, ...]) -> ByModel:
        gpu = own.gpus[0] if own.gpus else ""
        found = of(gpu)
        where = gpu or "a GPU that nobody names"
        if found is None:
            why = f"no fingerprint of it is kept{' for this driver' if driver() else ''}"
            remedy = "kts probe makes one while nobody else is on it, --fingerprint FILE takes another"
            return ByModel(None, f"nothing is foretold on {where}: {why}; {remedy}")
        if found.mode != TIME_SLICING:
            return ByModel(None, f"nothing is foretold on {where}: the fingerprint is of {found.mode}, without turns")
        whose = found.gpu.label or found.gpu.name or found.gpu.uuid or "a GPU"
        other = "" if found.gpu.uuid == gpu else ", another GPU"
        how = f"turns of {found.slice_ms.value:.3g} ms, {found.source} on {whose}{other}"
        figure = foretold(own, others, sharing(found))
        return ByModel(figure, f"foretold on {where}: by the model, with {how}" if figure else "")

    return told


def _kept(gpu: str, driver: str, folder: Path) -> Fingerprint | None:
    """The latest of it by turns."""
    its = [
        one
        for _, one in fingerprints.kept(folder)
        if isinstance(one, Fingerprint) and gpu and one.gpu.uuid == gpu and one.mode == TIME_SLICING
    ]
    fitting = [one for one in its if not driver or one.gpu.driver == driver]
    return max(fitting, key=lambda one: one.created_ns or 0, default=None)
