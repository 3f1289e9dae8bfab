"""Which iterations of a shared block really had company."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """A tenant's active window in a block: first submission to last completion (CLOCK_MONOTONIC ns)."""

    first_submit_ns: int
    last_retire_ns: int


def active_window(submit_ns: NDArray[np.int64], retire_ns: NDArray[np.int64]) -> Window | None:
    """The window of one tenant's iterations; None if it has none."""
    if not len(submit_ns):
        return None
    return Window(int(submit_ns.min()), int(retire_ns.max()))


def overlapping(
    submit_ns: NDArray[np.int64], retire_ns: NDArray[np.int64], tenant: str, windows: Mapping[str, Window | None]
) -> NDArray[np.bool_]:
    """True for every iteration that overlaps the active window of each neighbour, shape ``(n,)``.

    A neighbour without records (a command that reports nothing) counts as active for the whole block.
    """
    keep = np.ones(len(submit_ns), dtype=np.bool_)
    for name, window in windows.items():
        if name != tenant and window is not None:
            keep &= retire_ns >= window.first_submit_ns
            keep &= submit_ns <= window.last_retire_ns
    return keep
