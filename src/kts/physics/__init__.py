"""Prediction: how a GPU's sharing and each tenant alone make what a mix will do. Pure; the model is in docs/physics.md.

Names are loaded on first use, and numba only where something is simulated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kts.physics.simulate import Outcome, Sharing, Stream, simulate
    from kts.physics.values import Fingerprint, Profile

__all__ = [
    "Fingerprint",
    "Outcome",
    "Profile",
    "Sharing",
    "Stream",
    "simulate",
]

_HOME = {
    "Fingerprint": "values",
    "Outcome": "simulate",
    "Profile": "values",
    "Sharing": "simulate",
    "Stream": "simulate",
    "simulate": "simulate",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
