"""Are the records of all workers on one clock? Whether iterations overlapped hangs on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kts.model.checks import Check
from kts.model.reading import RunData
from kts.model.run import BlockOutcome, ClockPair, RunInfo
from kts.stats.checks.told import count, failed, not_applicable, passed
from kts.units import NS_PER_MS, format_ms, ns_to_ms

if TYPE_CHECKING:
    from kts.stats.gathering import Gathered

CODE = "clock-alignment"
APART_NS = NS_PER_MS
"""On one host it is below a microsecond; on two, the difference of their boots."""


def of_run(run: RunData, gathered: Gathered) -> Iterator[Check]:
    """By how far CLOCK_REALTIME is ahead of CLOCK_MONOTONIC to each worker, read just before and after every block."""
    del gathered
    found = [failed(CODE, "doubt", "times", f"In doubt: {line}.") for line in run.info.doubts]
    if wrong := apart(run.info):
        found.append(failed(CODE, "clocks-apart", format_ms(_furthest(run.info)), f"{_upper(wrong)}.", lowers=True))
    yield from found
    if found:
        return
    several = [one for block in run.blocks if (one := _apart_ns(block)) is not None]
    if not several:
        yield not_applicable(CODE, "In no block did two workers read both clocks.")
        return
    furthest = format_ms(ns_to_ms(max(several)))
    text = f"The clocks of the workers agree to {furthest} in {count(len(several), 'block')}."
    yield passed(CODE, furthest, text)


def apart(info: RunInfo) -> str:
    """Why nobody can say which iterations overlapped; empty where the workers' clocks agree, or nobody read them."""
    if _furthest(info) <= ns_to_ms(APART_NS):
        return ""
    return (
        f"the workers' monotonic clocks differ by {format_ms(_furthest(info))}, as on different hosts: which "
        "iterations overlapped is not known"
    )


def _furthest(info: RunInfo) -> float:
    """Milliseconds; 0 where no block tells."""
    return ns_to_ms(max((one for block in info.blocks if (one := _apart_ns(block)) is not None), default=0))


def _apart_ns(block: BlockOutcome) -> int | None:
    """How far the clocks of the block's workers are apart; None where fewer than two read them.

    Each worker reads a pair before the block and one after it. CLOCK_REALTIME may be set in between, for all of them:
    so the smaller of both differences counts. What the readings took is taken off.
    """
    if len(block.clocks) < 4 or len(block.clocks) % 2:
        return None
    return min(_spread([block.clocks[k] for k in range(edge, len(block.clocks), 2)]) for edge in (0, 1))


def _spread(pairs: Sequence[ClockPair]) -> int:
    ahead = [pair.realtime_ns - pair.monotonic_ns for pair in pairs]
    return max(0, max(ahead) - min(ahead) - 2 * max(pair.error_ns for pair in pairs))


def _upper(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"
