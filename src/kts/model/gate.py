"""What `kts check` says of tenants' tails: pass, fail or inconclusive. Documented in docs/gate.md."""

from __future__ import annotations

from typing import Literal

import msgspec

from kts.model.summary import Estimate

Judgement = Literal["pass", "fail", "inconclusive"]
Question = Literal["slo", "against", "pair"]
"""Is the SLO kept? Is NEW's tail worse than OLD's? Is B's worse than A's, both measured in one run?"""


class Criterion(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one tenant that may be ``limit`` at most. ``measured``: with its interval; ``unit`` of both.

    pass, fail: shown to be within, beyond the limit; inconclusive: neither, and ``why``. ``more_s``: about how many
    more seconds of measuring decide it if the figure is as it seems; None: decided, or no sensible time does.
    """

    tenant: str
    figure: str
    measured: Estimate
    unit: Literal["ms", "ratio"]
    limit: float
    judgement: Judgement
    why: str = ""
    more_s: float | None = None


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """Every criterion of one question. ``new``, ``old``: names of the runs, or of both experiments of a pair.

    ``confidence``: of the intervals, and of a pass; ``false_fail``: how often at most the gate fails, all criteria
    together, where nothing is beyond its limit. ``tolerance``: how much worse is tolerated, as a share; None with
    SLOs. ``measured_s``: seconds of measuring behind it, on one device: GPU-seconds where ``is_gpu``.
    """

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

    @property
    def judgement(self) -> Judgement:
        """fail where any criterion fails, pass where all pass."""
        kinds = {one.judgement for one in self.criteria}
        return "fail" if "fail" in kinds else "pass" if kinds == {"pass"} else "inconclusive"

    @property
    def sentence(self) -> str:
        """What it comes to, for people."""
        said = {kind: [one.tenant for one in self.criteria if one.judgement == kind] for kind in _WORDS}
        parts = [
            f"{', '.join(dict.fromkeys(names))}: {_WORDS[kind][self.question]}" for kind, names in said.items() if names
        ]
        return f"{self.judgement}: {'; '.join(parts)}"

    @property
    def more_s(self) -> float | None:
        """About how many more seconds of measuring decide all that is inconclusive; None where none does."""
        open_ones = [one.more_s for one in self.criteria if one.judgement == "inconclusive"]
        return max((s for s in open_ones if s is not None), default=None) if None not in open_ones else None


_WORDS: dict[Judgement, dict[Question, str]] = {
    "fail": {"slo": "beyond its limit", "against": "worse than tolerated", "pair": "worse than tolerated"},
    "inconclusive": {"slo": "not decided", "against": "not decided", "pair": "not decided"},
    "pass": {"slo": "within its limit", "against": "not worse than tolerated", "pair": "not worse than tolerated"},
}
