"""How good a choice of a mode is on another machine: hits, and what is lost against the best there. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kts.model.modes import ChoiceKind, ModesSummary

CLOSE = 0.05
"""A choice is right where it does at least 1 - CLOSE of what the best mode does."""


@dataclass(frozen=True)
class Scored:
    """A mix: the mode that was chosen on one machine (empty: none was, by its ``kind``), and what each mode did on the
    other.

    ``work``: tenants' worth of work per device by mode, 0 where it breaks an SLO, or is not proven.
    """

    mix: str
    chosen: str
    work: Mapping[str, float]
    kind: ChoiceKind = "chosen"

    @property
    def best(self) -> str:
        """The mode that does most there; empty where every one breaks an SLO."""
        name = max(self.work, key=lambda mode: self.work[mode], default="")
        return name if name and self.work[name] > 0 else ""

    def regret(self, mode: str) -> float | None:
        """The share of the best mode's work that is lost by taking ``mode``; all of it where it breaks an SLO and
        another does not; nothing where there is none to lose. None for a mode that was not measured."""
        if mode and mode not in self.work:
            return None
        if not self.best:
            return 0.0
        return 1 - (self.work[mode] if mode else 0.0) / self.work[self.best]

    @property
    def decided(self) -> bool:
        """False where the data were too few to tell which SLO is kept: kts says so, and chooses nothing."""
        return self.kind in ("chosen", "broken")

    @property
    def right(self) -> bool:
        """Best, or within `CLOSE` of it. Where every mode breaks an SLO: there, too."""
        lost = self.regret(self.chosen)
        return lost is not None and lost <= CLOSE


def scored(mix: str, here: ModesSummary, there: ModesSummary) -> Scored:
    """The choice ``here``, by what the same modes do ``there``."""
    work = {
        one.mode.name: (one.throughput or 0.0) if one.proves and one.slos != "broken" else 0.0 for one in there.modes
    }
    return Scored(mix, here.choice.best, work, here.choice.kind)


def promises(here: ModesSummary, factor: float) -> dict[str, float]:
    """By tenant, a p99 (ms) of so many times its own alone; those without one are promised nothing."""
    found = {}
    for name, tenant in here.modes[0].tenants.items():
        if tenant.alone_p99.estimate is not None:
            found[name] = factor * tenant.alone_p99.estimate
    return found


def table(found: Sequence[Scored]) -> Iterator[str]:
    """A row per rule, in mixes where kts decides: how many it is right in, and what it loses."""
    decided = [one for one in found if one.decided]
    modes = dict.fromkeys(mode for one in decided for mode in one.work)
    yield f"| rule | right (best or within {100 * CLOSE:g} %) | mean lost | most lost |"
    yield "|---|---:|---:|---:|"
    for rule in ("", *modes):
        lost = [value for one in decided if (value := one.regret(rule or one.chosen)) is not None]
        if lost:
            right = sum(value <= CLOSE for value in lost)
            name = f"always {rule}" if rule else "kts choose"
            yield f"| {name} | {right} of {len(lost)} | {_percent(sum(lost) / len(lost))} | {_percent(max(lost))} |"
    yield f"\nUndecided, for want of data: {len(found) - len(decided)} of {len(found)} mixes."


def rows(found: Sequence[Scored]) -> Iterator[str]:
    """A row per mix; by mode the tenants' worth of work on B, 0 where it breaks an SLO or is not proven."""
    modes = list(dict.fromkeys(mode for one in found for mode in one.work))
    yield f"| mix | chosen on A | best on B | {' | '.join(modes)} | |"
    yield "|---|---|---|" + "---:|" * len(modes) + "---|"
    for one in found:
        cells = [f"{one.work.get(mode, 0.0):.2f}" for mode in modes]
        right = "undecided" if not one.decided else "right" if one.right else "wrong"
        yield f"| {one.mix} | {one.chosen or 'none'} | {one.best or 'none'} | {' | '.join(cells)} | {right} |"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
