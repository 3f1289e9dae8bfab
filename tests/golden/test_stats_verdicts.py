"""The sentences that users read. A change here is a change of wording or of meaning: review it as such."""

from __future__ import annotations

from pathlib import Path

from kts.model.summary import ClockSummary, Degradation, Estimate, Latency, Waiting
from kts.stats.verdict import verdict

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


def test_verdicts_read_as_agreed() -> None:
    lines = []
    for name, (df, device, waiting, is_gpu, precision) in CASES.items():
        found = verdict("fft", clock(df), clock(device), waiting, is_gpu=is_gpu, precision=precision, confidence=0.95)
        lines.append(f"# {name}: {found.kind}, precise={found.precise}\n{found.sentence}\n")
    assert "".join(lines) == GOLDEN.read_text()
