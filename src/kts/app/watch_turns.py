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
from kts.watch.watching import ByModel, Foretell


def by_turns(given: Path | None, driver: Callable[[], str]) -> Foretell:
    """The model, each GPU with its own turns; with those of the file ``given``, whichever GPU they were measured on.

    ``driver``: the node's; empty: nobody tells, and the latest that is kept of a GPU is taken. DataError for a file
    that is no fingerprint.
    """
    ours = None if given is None else fingerprints.read(given)
    folder, driver = fingerprints.directory(os.environ), cache(driver)

    @cache
    def turns_of(gpu: str) -> Fingerprint | None:
        return ours or _kept(gpu, driver(), folder)

    def told(own: SeenUnit, others: tuple[SeenUnit, ...]) -> ByModel:
        gpu = own.gpus[0] if own.gpus else ""
        known = turns_of(gpu)
        where = gpu or "a GPU that nobody names"
        if known is None:
            why = f"no fingerprint of it is kept{' for this driver' if driver() else ''}"
            remedy = "kts probe makes one while nobody else is on it, --fingerprint FILE takes another"
            return ByModel(None, f"nothing is foretold on {where}: {why}; {remedy}")
        if known.mode != TIME_SLICING:
            return ByModel(None, f"nothing is foretold on {where}: the fingerprint is of {known.mode}, without turns")
        whose = known.gpu.label or known.gpu.name or known.gpu.uuid or "a GPU"
        other = "" if known.gpu.uuid == gpu else ", another GPU"
        how = f"turns of {known.slice_ms.value:.3g} ms, {known.source} on {whose}{other}"
        figure = foretold(own, others, sharing(known))
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
