"""What was fitted, and to what. Nothing else in the model was fitted to shared runs."""

from __future__ import annotations

from kts.physics.forecast import ModelError
from kts.physics.values import Gpu

MODEL_ERROR = ModelError(
    relative=0.03,
    source="fitted",
    how="to the development set on one NVIDIA H200",
)
"""`python examples/06_validate.py` shows how many bands hold there with other values; docs/physics.md has the table."""


def model_error(gpu: Gpu) -> ModelError:
    """The one for a GPU; none, and labelled so, for what is no GPU: nothing was fitted there."""
    return MODEL_ERROR if gpu.kind == "cuda" else ModelError()
