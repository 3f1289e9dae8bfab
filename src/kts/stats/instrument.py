"""Does the instrument hold here? What a run of equal tenants with known delays must show, and whether it does. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from kts.model.provenance import Provenance
from kts.model.summary import Estimate
from kts.stats.degradation import degradation
from kts.stats.sample import Blocks, make_sample
from kts.stats.verdict import half_width
from kts.units import format_ms
from kts.worker.instrument import TIMES, Timers

CLAIM = 0.999
"""Confidence of the intervals by which something is off: chance alone must not make a check fail."""
SHOWN = 0.95
TELLS = 0.10
"""An interval with a longer arm tells too little: undecided."""
WITHIN = 0.02
"""Of a DF, that it may be off besides its interval."""
HARMLESS = 0.02
"""By so much telemetry may slow iterations."""
CLOCK_NS, STOPWATCH_MS = 1000.0, 0.01
COST = 0.01
"""Of an iteration, what its stopwatch may take of the host: the design's bar for observing."""
TIMES_OFF = 0.10
BUSY = 0.02
"""Of the iterations' time, what their thread may wait for a core: beyond that others' work is in every figure."""

State = Literal["passed", "undecided", "failed", "not-applicable"]


class InstrumentPart(msgspec.Struct, frozen=True, kw_only=True):
    """One question. ``value``, with its interval where it has one, must lie within ``bar``. ``text``: a sentence.

    undecided: the machine is too busy to tell. not-applicable: it could not be asked.
    """

    name: str
    state: State
    text: str
    value: float | None = None
    lo: float | None = None
    hi: float | None = None
    bar: tuple[float, float] | None = None
    unit: str = ""


class InstrumentCheck(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, on ``device``. ``passed``: nothing is off. ``seconds``: how long it took."""

    device: str
    is_gpu: bool
    seconds: float
    seed: int
    passed: bool
    parts: tuple[InstrumentPart, ...]
    provenance: Provenance | None = None


def alike(first: Blocks, second: Blocks) -> Iterator[InstrumentPart]:
    """A/A: two equal tenants, each alone. A difference that is claimed is off."""
    for field, p in (("p50", 0.5), ("p99", 0.99)):
        name = f"equal tenants, {field}"
        shown, claimed = (_ratio(second, first, p, confidence) for confidence in (SHOWN, CLAIM))
        if shown.estimate is None or claimed.lo is None or claimed.hi is None:
            yield InstrumentPart(
                name=name, state="undecided", text=f"No interval of {field}: {claimed.refused}.", unit="ratio"
            )
            continue
        holds = claimed.lo <= 1 <= claimed.hi or (claimed.lo >= 1 / (1 + WITHIN) and claimed.hi <= 1 + WITHIN)
        said = "no difference is claimed" if holds else "a difference is claimed, and there is none"
        text = f"Of two equal tenants one takes {_ends(shown)} of the other: {said}."
        yield _part(name, holds, shown, text, (1 - WITHIN, 1 + WITHIN))


def recovered(solo: Blocks, late: Blocks, each_ms: float, tail_ms: float, share: float) -> Iterator[InstrumentPart]:
    """Known delays in every iteration, larger ones in a ``share``: the true DF is that of the solo iterations with
    these delays. Its interval must hold it."""
    alone = np.sort(np.concatenate([np.asarray(ms, dtype=np.float64) for _, ms in solo])) if solo else np.zeros(0)
    for field, p in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        name = f"injected delays, DF of {field}"
        shown, claimed = (_ratio(late, solo, p, confidence) for confidence in (SHOWN, CLAIM))
        if shown.estimate is None or claimed.lo is None or claimed.hi is None:
            yield InstrumentPart(
                name=name, state="undecided", text=f"No interval of {field}: {claimed.refused}.", unit="ratio"
            )
            continue
        before = float(np.quantile(alone, p))
        true = delayed_quantile(alone, p, each_ms, tail_ms, share) / before
        holds = claimed.lo * (1 - WITHIN) <= true <= claimed.hi * (1 + WITHIN)
        put_in = f"{format_ms(each_ms)} in each iteration and {format_ms(tail_ms)} more in {100 * share:g} %"
        made = f"make {field} {format_ms(before * true)} of {format_ms(before)}: DF {true:.3f}"
        text = f"{put_in} {made}, {'measured' if holds else 'but measured'} {_ends(shown)}."
        yield _part(name, holds, shown, text, (true * (1 - WITHIN), true * (1 + WITHIN)))


def delayed_quantile(alone: NDArray[np.float64], p: float, each_ms: float, tail_ms: float, share: float) -> float:
    """Quantile ``p`` (ms) of the iterations ``alone``, sorted, with ``each_ms`` in each and ``tail_ms`` more in a
    ``share`` of them that chance picks."""
    low, high = float(alone[0]) + each_ms, float(alone[-1]) + each_ms + tail_ms
    for _ in range(60):
        middle = (low + high) / 2
        below = [np.searchsorted(alone, middle - late, side="right") for late in (each_ms, each_ms + tail_ms)]
        if ((1 - share) * below[0] + share * below[1]) / len(alone) < p:
            low = middle
        else:
            high = middle
    return high


def observed(on: Blocks, off: Blocks, sources: Sequence[str]) -> Iterator[InstrumentPart]:
    """Iterations of rounds with telemetry against those of rounds without."""
    for field, p in (("p50", 0.5), ("p99", 0.99)):
        name = f"telemetry on and off, {field}"
        if not sources:
            text = "No source of telemetry is polled here while iterations run."
            yield InstrumentPart(name=name, state="not-applicable", text=text, unit="ratio")
            continue
        shown, claimed = (_ratio(on, off, p, confidence) for confidence in (SHOWN, CLAIM))
        if shown.estimate is None or claimed.lo is None:
            yield InstrumentPart(
                name=name, state="undecided", text=f"No interval of {field}: {claimed.refused}.", unit="ratio"
            )
            continue
        text = f"With telemetry ({', '.join(sources)}) {field} is {_ends(shown)} of what it is without."
        yield _part(name, claimed.lo <= 1 + HARMLESS, shown, text, (0.0, 1 + HARMLESS))


def clock_parts(told: Timers) -> Iterator[InstrumentPart]:
    """The host's clock."""
    text = f"CLOCK_MONOTONIC advances in steps of {told.clock_step_ns} ns; a reading takes {told.clock_cost_ns:.0f} ns"
    if told.backwards:
        text += f"; it went back {told.backwards} times"
    worst = max(float(told.clock_step_ns), told.clock_cost_ns)
    good = told.clock_step_ns > 0 and worst <= CLOCK_NS and not told.backwards
    yield InstrumentPart(name="clock", state=_state(good), text=f"{text}.", value=worst, bar=(0.0, CLOCK_NS), unit="ns")


def stopwatch_parts(told: Timers) -> Iterator[InstrumentPart]:
    """The device's stopwatch: how fine, whether several operations take several times as long, and at what cost."""
    what = told.stopwatch or "the device's stopwatch"
    if told.step_ms is None or told.times is None:
        yield InstrumentPart(name="stopwatch", state="not-applicable", text="The device has no stopwatch.", unit="ms")
    else:
        fine, step_bar = _state(told.step_ms <= STOPWATCH_MS), (0.0, STOPWATCH_MS)
        text = f"Readings of {what} differ by {format_ms(told.step_ms)} at least."
        yield InstrumentPart(name="stopwatch, step", state=fine, text=text, value=told.step_ms, bar=step_bar, unit="ms")
        text = f"{TIMES} operations in a row take {told.times:.3f} times as long on {what} as one."
        bar = (TIMES * (1 - TIMES_OFF), TIMES * (1 + TIMES_OFF))
        state = _state(bar[0] <= told.times <= bar[1])
        linear = InstrumentPart(
            name="stopwatch, linear", state=state, text=text, value=told.times, bar=bar, unit="ratio"
        )
        yield from on_quiet([linear], told.waited)
    share = told.cost_ms / told.solo_ms
    took, of = format_ms(told.cost_ms), format_ms(told.solo_ms)
    text = f"Starting and stopping it takes the host {took} of an iteration of {of}."
    yield InstrumentPart(
        name="stopwatch, cost", state=_state(share <= COST), text=text, value=share, bar=(0.0, COST), unit="share"
    )


def on_quiet(parts: Sequence[InstrumentPart], waited: float | None) -> Iterator[InstrumentPart]:
    """The parts, of which a busy machine leaves nothing decided. ``waited``: the share of the iterations' time in which
    their thread waited for a core; None: not told."""
    for part in parts:
        if waited is None or waited <= BUSY or part.state == "not-applicable":
            yield part
        else:
            text = (
                f"{part.text} Its thread waited for a core in {100 * waited:.0f} % of that time: other work is there."
            )
            yield msgspec.structs.replace(part, state="undecided", text=text)


def _ratio(above: Blocks, below: Blocks, p: float, confidence: float) -> Estimate:
    top, bottom = (make_sample(blocks, split=False) for blocks in (above, below))
    return degradation(top, bottom, p, confidence)


def _part(name: str, holds: bool, shown: Estimate, text: str, bar: tuple[float, float]) -> InstrumentPart:
    """Off is off; what holds only because its interval is wide is undecided."""
    width = half_width(shown)
    state: State = "failed" if not holds else "passed" if width is not None and width <= TELLS else "undecided"
    more = " The interval is too wide to tell." if state == "undecided" else ""
    return InstrumentPart(
        name=name,
        state=state,
        text=f"{text}{more}",
        value=shown.estimate,
        lo=shown.lo,
        hi=shown.hi,
        bar=bar,
        unit="ratio",
    )


def _state(good: bool) -> State:
    return "passed" if good else "failed"


def _ends(shown: Estimate) -> str:
    return f"{shown.estimate:.3f} ({shown.lo:.3f} to {shown.hi:.3f})"
