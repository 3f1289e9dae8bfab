"""Where the run stands among its rounds, how long it takes, and what comes after a block: more, a question, or the
end. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from kts.model.plan import Block, Plan
from kts.model.run import Outcome
from kts.plan import blocks_of_round, expected_seconds
from kts.plan.expected import HARD_LIMIT, MIN_ROUNDS
from kts.units import ns_to_s

UNKNOWN_SOLO_MS = 1000.0
"""Stands for the duration of an iteration that nobody knows (a command's) where a limit must not be too low."""

Step = Literal["block", "ask", "complete", "limit"]


class Course:
    """The rounds of a run whose plan is frozen. ``asks``: there is a stop rule to ask between rounds."""

    def __init__(self, plan: Plan, solo_ms: Mapping[str, float | None], *, asks: bool) -> None:
        self.pace = Pace(plan, solo_ms)
        self.round = 0  # of the last block that was started; from 1
        self.rounds_done = 0
        self.began_ns: int | None = None
        self.cut = False
        self.asks = asks and plan.sequential
        self._plan = plan
        self._queue = list(blocks_of_round(plan, 0))

    def begin(self, start_ns: int) -> None:
        """A block starts at ``start_ns``."""
        self.began_ns = start_ns if self.began_ns is None else self.began_ns

    def pop(self) -> Block:
        """The next block."""
        block = self._queue.pop(0)
        self.round = block.round + 1
        return block

    def after_block(self, now_ns: int) -> Step:
        """What follows a block that ended valid (or the freezing of the plan)."""
        if self._queue:
            return "limit" if self.cut else "block"
        self.rounds_done += 1
        enough = self.rounds_done >= self._plan.rounds
        if self.asks and (enough or self._no_time(now_ns)):
            return "ask"
        if enough and not self.cut:
            return "complete"
        return self._go_on(now_ns)

    def after_rule(self, now_ns: int, *, reached: bool) -> Step:
        """What follows the stop rule's answer."""
        if reached:
            return "complete"
        if self.rounds_done >= max(self._plan.max_rounds, self._plan.rounds):
            return "limit"
        return self._go_on(now_ns)

    def _go_on(self, now_ns: int) -> Step:
        if self._no_time(now_ns):
            return "limit"
        self._queue = list(blocks_of_round(self._plan, self.rounds_done))
        return "block"

    def _no_time(self, now_ns: int) -> bool:
        limit_s = self._plan.max_seconds
        if self.cut or limit_s is None or self.rounds_done < min(MIN_ROUNDS, self._plan.rounds):
            return self.cut
        elapsed_s = self.measured_s(now_ns)
        return elapsed_s + elapsed_s / self.rounds_done > limit_s

    def must_cut(self, now_ns: int) -> bool:
        """True once the running block has to be stopped for lack of time; remembers it."""
        limit_s = self._plan.max_seconds
        if limit_s is not None and self.measured_s(now_ns) > HARD_LIMIT * limit_s:
            self.cut = True
        return self.cut

    def at_limit(self, now_ns: int) -> Outcome:
        """The outcome of a run that ended before it had what was asked."""
        aim = f"DF99 was settled to +-{self._plan.precision or 0:.3g}" if self.asks else f"{self._plan.rounds} rounds"
        what = f"stopped at its limits after {self.rounds_done} rounds in {self.measured_s(now_ns):.1f} s"
        what += "" if self._plan.pair else f", before {aim}"  # the last look has yet to be made
        return Outcome(kind="undetermined", reason=what, remedy="allow more time (--max-seconds)")

    def measured_s(self, now_ns: int) -> float:
        """Seconds since the first block's start."""
        return 0.0 if self.began_ns is None else max(0.0, ns_to_s(now_ns - self.began_ns))

    def left_s(self, now_ns: int, running: Block | None, running_s: float) -> float:
        """Seconds left, as far as one can tell; with a precision: until the rule is asked next.

        ``running`` is the block that has been running for ``running_s``.
        """
        left_s = self.pace.blocks_s(self._queue)
        if running is not None:
            left_s += max(0.0, self.pace.block_s(running.condition) - running_s)
        more = self._plan.rounds - self.rounds_done - 1
        if more > 0:
            left_s += more * sum(self.pace.block_s(condition.name) for condition in self._plan.conditions)
        if self._plan.max_seconds is not None:
            left_s = min(left_s, max(0.0, self._plan.max_seconds - self.measured_s(now_ns)))
        return left_s


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
