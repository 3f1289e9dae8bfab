"""Fingerprints, profiles and predictions as JSON text, and what is wrong with a text that is none."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

import msgspec

from kts.errors import DataError
from kts.model.plan import Closed, Poisson
from kts.physics.draws import service_alone_ms
from kts.physics.forecast import PREDICTION_VERSION, Prediction
from kts.physics.values import FINGERPRINT_VERSION, PROFILE_VERSION, Fingerprint, Interval, Profile

File = Fingerprint | Profile | Prediction
_T = TypeVar("_T", Fingerprint, Profile, Prediction)


def encode(value: File) -> bytes:
    """The file's content, indented, ending in a newline."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def decode_fingerprint(raw: bytes, name: str) -> Fingerprint:
    """A fingerprint; DataError, with ``name`` in it, where the text is none or holds impossible figures."""
    found = _decode(raw, name, Fingerprint, "fingerprint", FINGERPRINT_VERSION)
    figures = (found.slice_ms, found.launch_gap_ms, *found.preempt_ms, *found.yield_ms, *found.wake_ms)
    if not all(_sound(figure) for figure in figures) or not found.slice_ms.lo > 0:
        raise DataError(f"{name}: not a fingerprint: lo <= value <= hi, none below 0, a slice above 0", _REMEDY)
    if not (found.preempt_ms and found.yield_ms):
        raise DataError(f"{name}: not a fingerprint: no switch costs", _REMEDY)
    return found


def decode_profile(raw: bytes, name: str) -> Profile:
    """A profile; DataError where the text is none or its columns do not fit together."""
    found = _decode(raw, name, Profile, "profile", PROFILE_VERSION)
    try:
        _ = found.iterations, found.solo_service.ns, found.solo_device.ns
        _check_pacing(found)
    except ValueError as error:
        raise DataError(f"{name}: not a profile: {error}", _REMEDY) from error
    return found


def decode_prediction(raw: bytes, name: str) -> Prediction:
    """A prediction; DataError where the text is none."""
    return _decode(raw, name, Prediction, "prediction", PREDICTION_VERSION)


_REMEDY = "give a file that kts wrote, or see docs/formats.md"


def _check_pacing(profile: Profile) -> None:
    """ValueError for arrivals, deadlines and queues that cannot be, and for a tenant that takes no time at all."""
    arrivals, finite = profile.arrivals, float("inf")
    if isinstance(arrivals, Closed):
        sound = 0 <= arrivals.think_ms < finite and 0 <= arrivals.jitter <= 1
    elif isinstance(arrivals, Poisson):
        sound = 0 < arrivals.rate_hz < finite
    else:
        steps = [b - a for a, b in pairwise((0.0, *arrivals.due_ms, arrivals.period_ms))]
        sound = len(arrivals.due_ms) > 0 and min(steps) >= 0 and 0 < arrivals.period_ms < finite
    if not sound:
        raise ValueError("impossible arrivals")
    if profile.deadline_ms is not None and not 0 < profile.deadline_ms < finite:
        raise ValueError("a deadline is above 0")
    if profile.queue_depth is not None and profile.queue_depth < 1:
        raise ValueError("a queue holds at least one launch")
    if service_alone_ms(profile) <= 0:
        raise ValueError("its iterations take no time")


def _sound(figure: Interval) -> bool:
    return 0 <= figure.lo <= figure.value <= figure.hi < float("inf")


def _decode(raw: bytes, name: str, kind: type[_T], word: str, newest: int) -> _T:
    try:
        head = msgspec.json.decode(raw)
        version = head.get("schema") if isinstance(head, dict) else None
        if isinstance(version, int) and version > newest:
            raise DataError(f"{name}: written by a newer kts (schema {version})", "update kts")
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: not a {word}: {error}", _REMEDY) from error
