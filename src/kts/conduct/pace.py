"""How long blocks take: as seen so far, and as expected where none was seen. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kts.model.plan import Block, Plan
from kts.plan import expected_seconds

UNKNOWN_SOLO_MS = 1000.0
"""Stands for the duration of an iteration that nobody knows (a command's) where a limit must not be too low."""


def longest_block_s(plan: Plan, solo_ms: Mapping[str, float | None]) -> float:
    """An upper estimate of the seconds that any block takes: what a whole round is expected to take."""
    return expected_seconds(plan, {name: ms or UNKNOWN_SOLO_MS for name, ms in solo_ms.items()})


class Pace:
    """Mean duration of the blocks seen so far, by condition; the mean of a round's blocks where none was seen."""

    def __init__(self, plan: Plan, solo_ms: Mapping[str, float | None]) -> None:
        self._expected_s = expected_seconds(plan, solo_ms) / len(plan.conditions)
        self._seen: dict[str, tuple[int, float]] = {}

    def saw(self, condition: str, seconds: float) -> None:
        """A block of ``condition`` took that long, lead time included."""
        n, total = self._seen.get(condition, (0, 0.0))
        self._seen[condition] = (n + 1, total + seconds)

    def block_s(self, condition: str) -> float:
        """Seconds that a block of ``condition`` is likely to take."""
        n, total = self._seen.get(condition, (0, 0.0))
        return total / n if n else self._expected_s

    def blocks_s(self, blocks: Iterable[Block]) -> float:
        """Seconds that blocks one after the other are likely to take."""
        return sum(self.block_s(block.condition) for block in blocks)
