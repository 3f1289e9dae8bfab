"""Causes by hand for the tests of what is told of them: nothing here is measured."""

from __future__ import annotations

import msgspec

from kts.model.causes import CauseName, Causes, Decomposition, Part, Statistic
from kts.model.summary import Summary
from kts.report.cause_words import told
from kts.report.document import Document
from kts.report.sections.causes import told_elements
from tests.helpers_report import HOSTILE, fft_summary, gemm_summary, summary, terminal_text

HOUSE = "shared-fft+gemm"
LONG = "retrieval-augmented-generation-with-a-reranker-of-the-search-team"


def part(cause: CauseName, ms: float, data: str = "", **by: float) -> Part:
    """A part with an interval of a tenth to each side, and 0.02 ms more."""
    arm = 0.1 * abs(ms) + 0.02
    return Part(cause=cause, ms=ms, lo=ms - arm, hi=ms + arm, data=data, by=by)


def decomposition(statistic: Statistic, alone_ms: float, *parts: Part) -> Decomposition:
    """Parts that add up to the whole, as they do."""
    added = sum(one.ms for one in parts)
    arm = 0.05 * abs(added) + 0.02
    return Decomposition(
        statistic=statistic, alone_ms=alone_ms, added_ms=added, lo=added - arm, hi=added + arm, parts=parts
    )


def of_fft() -> Causes:
    """Waits for gemm; its queued launches save a little."""
    wait = "submit to device start 1.85 ms of 2.11 ms, alone 0.05 ms"
    p99 = decomposition(
        "p99",
        1.9,
        part("first-turn", 1.8, wait, gemm=1.8),
        part("turns", 0.4, "device stopwatch 0.41 ms over its busy time", gemm=0.4),
        part("back-to-back", -0.2, "device stopwatch 0.20 ms below its own alone"),
        part("unexplained", 0.1),
    )
    mean = decomposition("mean", 1.8, part("first-turn", 0.5, wait, gemm=0.5), part("unexplained", 0.01))
    return Causes(condition=HOUSE, of=(mean, p99))


def of_gemm() -> Causes:
    """Two neighbours, tiny and negative parts, a fall that its interval does not settle."""
    return Causes(
        condition=HOUSE,
        of=(
            decomposition(
                "p99",
                20.9,
                part("turns", 3.1, "in flight meanwhile", **{"fft": 2.0, LONG: 1.1}),
                part("core", 0.004, "run-queue wait"),
                part("hidden", -1.4, "CPU time 1.4 ms while the device was waited for"),
                part("slower-clocks", 0.6, "SM clock 1755 MHz against 1980 MHz alone"),
                part("unexplained", -0.3),
            ),
        ),
    )


def with_causes(of: Summary | None = None) -> Summary:
    """The published pair, explained."""
    of = of or summary({"fft": fft_summary(), "gemm": gemm_summary()})
    by = {"gemm": of_gemm()}
    tenants = {name: msgspec.structs.replace(one, causes=(by.get(name, of_fft()),)) for name, one in of.tenants.items()}
    return msgspec.structs.replace(of, tenants=tenants)


def crowded() -> Summary:
    """Eight tenants, one of a long name, one of a hostile one, one refused, one that nothing was added to."""
    names = [LONG, HOSTILE, *(f"tenant-{k}" for k in range(4))]
    of = summary({name: fft_summary() for name in (*names, "short", "same")})
    told = with_causes(of)
    every: tuple[CauseName, ...] = (
        "queue",
        "slower-memory",
        "quota",
        "sibling",
        "launch",
        "between",
        "disk",
        "uninvited",
    )
    many = decomposition(
        "p99", 812.0, *(part(c, 40.0 / (k + 1), "by hand") for k, c in enumerate(every)), part("unexplained", 3.0)
    )
    refused = Causes(condition=HOUSE, refused="41 iterations alone are too few for a p50")
    same = Causes(condition=HOUSE, of=(decomposition("p99", 4.0, part("unexplained", 0.001)),))
    tenants = dict(told.tenants)
    for name, causes in ((LONG, Causes(condition=HOUSE, of=(many,))), ("short", refused), ("same", same)):
        tenants[name] = msgspec.structs.replace(tenants[name], causes=(causes,))
    return msgspec.structs.replace(told, tenants=tenants)


def waterfalls(of: Summary, width: int) -> str:
    """What a terminal of that width shows of them."""
    return terminal_text(Document(tuple(told_elements(told(of), bars=True))), width)
