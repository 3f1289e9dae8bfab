"""What `kts check` says of tenants' tails: pass, fail or inconclusive. Documented in docs/gate.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from kts.model.summary import Estimate

SENSIBLE = 100.0
"""Times as long as was measured: what takes more to decide is at its limit, and no sensible time decides it."""
TOLERANCE = 0.05
"""How much worse is tolerated where nobody says, as a share."""

Judgement = Literal["pass", "fail", "inconclusive"]
Question = Literal["slo", "against", "pair"]
"""Is the SLO kept? Is NEW's tail worse than OLD's? Is B's worse than A's, both measured in one run?"""


class Criterion(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one tenant that may be ``limit`` at most. ``measured``: with its interval; ``unit`` of both.

    pass, fail: shown to be within, beyond the limit; inconclusive: neither, and ``why``. ``more_s``: about how many
    more seconds of measuring decide it; None: decided, or no sensible time does. ``old``, ``new``: of a ratio, what it
    is made of (of the figure DF99 ratios, else ms); None with SLOs.
    """

    tenant: str
    figure: str
    measured: Estimate
    unit: Literal["ms", "ratio"]
    limit: float
    judgement: Judgement
    why: str = ""
    more_s: float | None = None
    old: Estimate | None = None
    new: Estimate | None = None


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """Every criterion of one question. ``new``, ``old``: names of the runs, or of both experiments of a pair.

    ``judgement``: fail where any criterion fails, pass where all pass; ``sentence`` says the same to people.
    ``more_s``: about how many more seconds of measuring decide all that is inconclusive; None: nothing is, or nobody
    can tell.
    ``confidence``: of the intervals, and of a pass; ``false_fail``: how often at most the gate fails, all criteria
    together, where nothing is beyond its limit. ``tolerance``: how much worse is tolerated, as a share; None with SLOs.
    ``measured_s``: seconds of measuring behind it, on one device: GPU-seconds where ``is_gpu``.
    """

    judgement: Judgement
    sentence: str
    more_s: float | None
    question: Question
    new: tuple[str, ...]
    old: tuple[str, ...] = ()
    confidence: float
    false_fail: float
    tolerance: float | None = None
    criteria: tuple[Criterion, ...]
    measured_s: float | None = None
    is_gpu: bool = False
    notes: tuple[str, ...] = ()


def sentence_of(question: Question, criteria: Sequence[Criterion]) -> str:
    """``fail: fft: worse than tolerated; gemm: not decided``."""
    parts = []
    for kind, words in _WORDS.items():
        if names := dict.fromkeys(one.tenant for one in criteria if one.judgement == kind):
            parts.append(f"{', '.join(names)}: {words[question == 'slo']}")
    return f"{judgement_of(criteria)}: {'; '.join(parts)}"


def judgement_of(criteria: Sequence[Criterion]) -> Judgement:
    """fail where any fails, pass where all pass."""
    kinds = {one.judgement for one in criteria}
    return "fail" if "fail" in kinds else "pass" if kinds == {"pass"} else "inconclusive"


_WORDS: dict[Judgement, tuple[str, str]] = {
    "fail": ("worse than tolerated", "beyond its limit"),
    "inconclusive": ("not decided", "not decided"),
    "pass": ("not worse than tolerated", "within its limit"),
}
"""Of a comparison, and of an SLO."""
