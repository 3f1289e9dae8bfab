"""Prediction: how a GPU's sharing and each tenant alone make what a mix will do. Pure; the model is in docs/physics.md.

Names are loaded on first use, and numba only where something is simulated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kts.physics.forecast import Prediction
    from kts.physics.predict import Effort, Predictor
    from kts.physics.simulate import Outcome, Sharing, Stream, simulate
    from kts.physics.validate import Score, score
    from kts.physics.values import Fingerprint, Profile
    from kts.physics.whatif import Question, what_if

__all__ = [
    "Effort",
    "Fingerprint",
    "Outcome",
    "Prediction",
    "Predictor",
    "Profile",
    "Question",
    "Score",
    "Sharing",
    "Stream",
    "score",
    "simulate",
    "what_if",
]

_HOME = {
    "Effort": "predict",
    "Fingerprint": "values",
    "Outcome": "simulate",
    "Prediction": "forecast",
    "Predictor": "predict",
    "Profile": "values",
    "Question": "whatif",
    "Score": "validate",
    "Sharing": "simulate",
    "Stream": "simulate",
    "score": "validate",
    "simulate": "simulate",
    "what_if": "whatif",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
