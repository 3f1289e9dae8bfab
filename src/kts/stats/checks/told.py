"""How a check says what came of it."""

from __future__ import annotations

from kts.model.checks import Check
from kts.stats.sample import LatencySample


def passed(code: str, figure: str, text: str, tenant: str = "", *, caution: str = "") -> Check:
    """Nothing of it limits the figures. ``caution``: what was seen is worth a line all the same."""
    return Check(code=code, outcome="passed", figure=figure, text=text, tenant=tenant, caution=caution)


def failed(
    code: str,
    caution: str,
    figure: str,
    text: str,
    tenant: str = "",
    *,
    off: float | None = None,
    lowers: bool = False,
) -> Check:
    """It limits the figures: see `Check`."""
    return Check(
        code=code,
        outcome="failed",
        figure=figure,
        text=text,
        tenant=tenant,
        off=None if off is None else max(0.0, off),
        lowers=lowers,
        caution=caution,
    )


def not_applicable(code: str, text: str, tenant: str = "", *, caution: str = "") -> Check:
    """It could not be asked; ``text`` says why."""
    return Check(code=code, outcome="not-applicable", figure="", text=text, tenant=tenant, caution=caution)


def percent(share: float) -> str:
    """``12 %``, ``0.3 %``, ``0 %``."""
    return f"{100 * share:.2g} %" if 0 < abs(share) < 0.0995 else f"{100 * share:.0f} %"


def count(n: int, word: str, words: str = "") -> str:
    """``1 block``, ``3 blocks``."""
    return f"{n} {word}" if n == 1 else f"{n} {words or word + 's'}"


def tail_moves(sample: LatencySample, fraction: float, tail: float = 0.01) -> float:
    """By what share p99 changes if ``fraction`` of the iterations are slower than it instead of ``tail``."""
    p99 = sample.quantile(1 - tail)
    return abs(sample.quantile(min(max(1 - fraction, 0.0), 1.0)) / p99 - 1) if p99 > 0 else 0.0
