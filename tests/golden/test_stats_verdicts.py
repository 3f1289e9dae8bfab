"""The sentences that users read. A change here is a change of wording or of meaning: review it as such.

`python -m tests.golden.test_stats_verdicts` writes the file anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kts.model.summary import ClockSummary, Degradation, Estimate, Latency, Waiting
from kts.stats.verdict import half_width, judge, relevance, settled, verdict

GOLDEN = Path(__file__).with_name("stats_verdicts.txt")
NONE = Estimate(estimate=None, lo=None, hi=None, refused="shared p99 needs 368 iterations, have 120")


def clock(df: tuple[float, float, float] | None, solo_ms: float = 3.9) -> ClockSummary:
    def latency(ms: float) -> Latency:
        e = Estimate(estimate=ms, lo=ms, hi=ms)
        return Latency(n=1000, mean=ms, p50=e, p95=e, p99=e, p999=e, jitter=e)

    ratio = NONE if df is None else Estimate(estimate=df[0], lo=df[1], hi=df[2])
    shared = solo_ms * (df[0] if df else 1.0)
    return ClockSummary(
        solo=latency(solo_ms),
        shared=latency(shared),
        df=Degradation(p50=ratio, p95=ratio, p99=ratio, p999=ratio),
    )


def waits(added: float, wait: float) -> Waiting:
    return Waiting(added_ms=added, wait_ms=wait, device_ms=added - wait, factor=max(wait, 0) / 3.9)


Df = tuple[float, float, float]
CASES: dict[str, tuple[Df | None, Df | None, Waiting | None, bool, float | None]] = {
    "worse, hidden from the device": ((2.13, 2.04, 2.22), (1.67, 1.6, 1.7), waits(4.4, 3.9), True, 0.05),
    "worse, device shows nothing": ((12.0, 11.6, 12.3), (0.9, 0.8, 1.0), waits(43.0, 43.5), True, 0.05),
    "worse, all on the device": ((1.3, 1.27, 1.33), (1.31, 1.28, 1.35), waits(1.2, 0.0), True, None),
    "worse, on a CPU": ((2.13, 2.04, 2.22), (1.0, 0.99, 1.01), waits(4.4, 4.3), False, 0.05),
    "worse, not precise": ((1.6, 1.2, 2.1), (1.5, 1.1, 2.0), None, True, 0.05),
    "worse, no precision asked": ((1.6, 1.2, 2.1), (1.5, 1.1, 2.0), None, True, None),
    "better": ((0.85, 0.83, 0.87), (0.8, 0.78, 0.82), waits(-0.5, 0.1), True, 0.05),
    "better, not precise": ((0.7, 0.5, 0.9), (0.8, 0.7, 0.9), None, True, 0.05),
    "no change": ((1.0, 0.98, 1.02), (1.0, 0.98, 1.02), waits(0.01, 0.0), True, 0.05),
    "undetermined": ((1.1, 0.9, 1.3), (1.0, 0.9, 1.1), waits(0.3, 0.2), True, 0.05),
    "refused": (None, None, None, True, 0.05),
}


POSITIONS: dict[str, tuple[Df, float | None]] = {
    "below 1/(1+X)": ((0.7, 0.6, 0.8), 0.05),
    "below 1, on both sides of 1/(1+X)": ((0.94, 0.90, 0.97), 0.05),
    "below 1, above 1/(1+X)": ((0.97, 0.96, 0.98), 0.05),
    "within, ends at 1": ((0.98, 0.97, 1.0), 0.05),
    "within, holds 1": ((1.0, 0.98, 1.02), 0.05),
    "within, holds 1, narrow": ((1.0, 0.998, 1.002), 0.05),
    "within, from 1/(1+X) to 1+X": ((1.0, 1 / 1.05, 1.05), 0.05),
    "within, one arm longer than X": ((0.96, 0.955, 1.045), 0.05),
    "above 1, below 1+X": ((1.004, 1.002, 1.006), 0.05),
    "above 1, on both sides of 1+X": ((1.05, 1.01, 1.095), 0.05),
    "above 1, on both sides of 1+X, wide": ((1.15, 1.01, 1.30), 0.05),
    "above 1 by a hair, on both sides of 1+X": ((1.15, 1.0004, 1.30), 0.05),
    "begins at 1+X": ((1.06, 1.05, 1.07), 0.05),
    "above 1+X": ((1.2, 1.19, 1.21), 0.05),
    "holds 1, beyond 1+X": ((1.045, 0.998, 1.095), 0.05),
    "holds 1, beyond 1/(1+X)": ((0.97, 0.93, 1.01), 0.05),
    "holds 1, beyond both": ((1.05, 0.90, 1.3), 0.05),
    "holds 1, half of X wide, beyond 1+X by a hair": ((1.0255, 0.9999, 1.0501), 0.05),
    "above 1+X, X of 0.1 %": ((1.002, 1.0015, 1.0025), 0.001),
    "a single value": ((1.0004, 1.0004, 1.0004), 0.0001),
    "no precision asked, holds 1": ((1.1, 0.9, 1.3), None),
}
"""Every position of an interval against 1/(1+X), 1 and 1+X; docs/measuring.md has it as a table."""

DIMMED = ("above 1+X", "above 1, on both sides of 1+X", "within, holds 1", "holds 1, beyond 1+X", "below 1/(1+X)")


def lines() -> list[str]:
    found = []
    for name, (df, device, waiting, is_gpu, precision) in CASES.items():
        made = verdict("fft", clock(df), clock(device), waiting, is_gpu=is_gpu, precision=precision, confidence=0.95)
        found.append(f"# {name}: {made.kind}, precise={made.precise}, relevant={made.relevant}\n{made.sentence}\n")
    for name, (df, precision) in POSITIONS.items():
        for dimmed in ("", "one block per condition") if name in DIMMED else ("",):
            made = verdict(
                "fft", clock(df), clock(df), None, is_gpu=True, precision=precision, confidence=0.95, dimmed=dimmed
            )
            stops = settled(clock(df).df.p99, precision or 0.05)
            head = f"{made.kind}, precise={made.precise}, relevant={made.relevant}, settled={stops}"
            found.append(f"# {name}{', dimmed' if dimmed else ''}: {head}\n{made.sentence}\n")
    return found


def test_verdicts_read_as_agreed() -> None:
    assert "".join(lines()) == GOLDEN.read_text()


@pytest.mark.parametrize("precision", [0.001, 0.05, 0.3])
def test_no_position_of_an_interval_is_without_its_verdict(precision: float) -> None:
    """No change is an equivalence test; a verdict of worse or better excludes 1; a stop has an answer."""
    edges = [0.5, 1 / (1 + precision), 1 - precision / 3, 1.0, 1 + precision / 3, 1 + precision, 2.0]
    near = sorted({edge * (1 + step) for edge in edges for step in (-1e-4, 0.0, 1e-4)})
    for k, lo in enumerate(near):
        for hi in near[k:]:
            df = Estimate(estimate=(lo * hi) ** 0.5, lo=lo, hi=hi)
            kind, _ = judge(df, precision)
            within = 1 / (1 + precision) <= lo and hi <= 1 + precision
            assert (kind == "no-change") == within
            assert (kind == "worse") == (lo > 1 and not within)
            assert (kind == "better") == (hi < 1 and not within)
            assert (kind == "undetermined") == (lo <= 1 <= hi and not within)
            assert (relevance(df, precision) is False) == within
            assert not settled(df, precision) or kind != "undetermined" or (half_width(df) or 1.0) <= precision / 2


@pytest.mark.parametrize("precision", [1e-4, 1e-3, 0.05, None])
@pytest.mark.parametrize("distance", [1e-4, 4e-4, 1e-3, 4e-3, 1e-2, 0.1, 3.0])
def test_a_change_is_never_printed_as_none(precision: float | None, distance: float) -> None:
    """ "1.00x worse (1.00 to 1.00)" says two things at once."""
    for lo, hi in ((1 + 0.5 * distance, 1 + 1.5 * distance), (1 / (1 + 1.5 * distance), 1 / (1 + 0.5 * distance))):
        df = ((lo * hi) ** 0.5, lo, hi)
        text = verdict("fft", clock(df), clock(df), None, is_gpu=True, precision=precision, confidence=0.95).sentence
        ends = re.search(r"interval ([\d.]+) to ([\d.]+)", text)
        assert ends is not None
        assert float(ends[1]) < float(ends[2])
        assert (float(ends[1]) > 1) == (lo > 1)
        assert (float(ends[2]) < 1) == (hi < 1)


if __name__ == "__main__":
    GOLDEN.write_text("".join(lines()))
