"""Fingerprints, profiles and predictions out of JSON text, and what is wrong with a text that is none."""

from __future__ import annotations

from kts.errors import DataError
from kts.files import decode
from kts.physics.draws import service_alone_ms
from kts.physics.forecast import PREDICTION_VERSION, Prediction
from kts.physics.values import FINGERPRINT_VERSION, PROFILE_VERSION, Fingerprint, Profile

PROFILE_SUFFIX = ".profile.json"
"""How profiles are called in a folder, behind their tenant's name."""
_REMEDY = "give a file that kts wrote, or see docs/formats.md"


def decode_fingerprint(raw: bytes, name: str) -> Fingerprint:
    """A fingerprint; DataError, with ``name`` in it, where the text is none or holds impossible figures."""
    return decode(raw, Fingerprint, name, "not a fingerprint", _REMEDY, newest=FINGERPRINT_VERSION)


def decode_profile(raw: bytes, name: str) -> Profile:
    """A profile; DataError where the text is none, its columns do not fit together or its times cannot be."""
    found = decode(raw, Profile, name, "not a profile", _REMEDY, newest=PROFILE_VERSION)
    try:
        check_profile(found)
    except ValueError as error:
        raise DataError(f"{name}: not a profile: {error}", _REMEDY) from error
    return found


def decode_prediction(raw: bytes, name: str) -> Prediction:
    """A prediction; DataError where the text is none or holds impossible figures."""
    return decode(raw, Prediction, name, "not a prediction", _REMEDY, newest=PREDICTION_VERSION)


def check_profile(profile: Profile) -> None:
    """ValueError for columns that do not fit together, for deadlines and queues that cannot be, and for a
    tenant that takes no time at all."""
    _ = profile.iterations, profile.threads, profile.solo_service.ms, profile.solo_device.ms
    if profile.deadline_ms is not None and not 0 < profile.deadline_ms < float("inf"):
        raise ValueError("a deadline is above 0")
    if profile.queue_depth is not None and profile.queue_depth < 1:
        raise ValueError("a queue holds at least one launch")
    if min(service_alone_ms(one.iterations) for one in profile.threads) <= 0:
        raise ValueError("its iterations take no time")
