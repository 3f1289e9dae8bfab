"""Whether a prediction was there before its run: what `kts predict --seal` promises and `kts validate` checks.

A seal is the sha256 of the prediction's file, published where others can see when. The file holds when it was made, and
the hashes of what it was made from; so who has the hash from before the run knows that nothing was fitted to the run.
When the hash was published is for its reader to see: no file can prove that of itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from kts.model.provenance import Material
from kts.model.run import RunInfo
from kts.physics.forecast import Prediction


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """``sealed``: the file still has the hash ``given``, and was made before the run began, as was all that it was made
    from. ``against``: why it is not sealed; ``remarks``: what could not be checked."""

    sealed: bool
    sha256: str
    given: str = ""
    made_ns: int | None = None
    run_began_ns: int | None = None
    against: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """For people."""
        if not self.sealed:
            return f"NOT sealed: {'; '.join(self.against)}"
        return (
            f"Sealed before the run: the file has the hash given, {self.sha256}; it was made {_when(self.made_ns)}, "
            f"the run began {_when(self.run_began_ns)}."
        )


def check(prediction: Prediction, sha256: str, given: str, run: RunInfo, run_materials: tuple[Material, ...]) -> Seal:
    """``sha256``: of the prediction's file; ``given``: the hash that was published, or empty; ``run_materials``: the
    files of the run that it is held against."""
    began = run.created_ns or None
    against = [*_hash(sha256, given), *_time(prediction.created_ns, began)]
    if began is not None:
        against += _inputs(prediction, began, {one.sha256 for one in run_materials})
    return Seal(
        sealed=not against,
        sha256=sha256,
        given=given,
        made_ns=prediction.created_ns,
        run_began_ns=began,
        against=tuple(against),
        remarks=tuple(_remarks(prediction)),
    )


def _hash(sha256: str, given: str) -> Iterator[str]:
    if not given:
        yield f"no published hash was given to hold the file's against ({sha256})"
    elif given != sha256:
        yield f"the file's hash is {sha256}, the one given {given}"


def _time(made_ns: int | None, began_ns: int | None) -> Iterator[str]:
    if made_ns is None:
        yield "the prediction does not say when it was made"
    if began_ns is None:
        yield "the run does not say when it began"
    if made_ns is not None and began_ns is not None and made_ns >= began_ns:
        yield f"it was made {_when(made_ns)}, after the run had begun ({_when(began_ns)})"


def _inputs(prediction: Prediction, began_ns: int, of_this_run: set[str]) -> Iterator[str]:
    late = []
    for one in prediction.provenance.made_from if prediction.provenance else ():
        if one.kind == "run" and one.sha256 in of_this_run:
            yield f"it was made from this very run ({one.name})"
        elif one.created_ns is not None and one.created_ns >= began_ns:
            late.append(f"{one.kind} {one.name}")
    if late:
        yield f"made after the run had begun: {', '.join(late)}"


def _remarks(prediction: Prediction) -> Iterator[str]:
    if prediction.provenance is None:
        yield "the prediction does not say what it was made from"
        return
    silent = [f"{one.kind} {one.name}" for one in prediction.provenance.made_from if one.created_ns is None]
    if silent:
        yield f"no time of their own in: {', '.join(silent)}; their hashes are in the prediction"
    if prediction.fingerprint.source != "measured":
        yield f"the fingerprint is {prediction.fingerprint.source}: it is in the prediction itself"


def _when(ns: int | None) -> str:
    return "" if ns is None else f"{datetime.fromtimestamp(ns / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"
