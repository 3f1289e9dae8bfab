"""Programs that were still starting while others were measured beside them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from kts.model.plan import Plan


class Starting:
    """Follows a run's blocks in order of time.

    A program that told of no iteration while it was waited for was taken for one that never does. Where it does later,
    all its blocks up to that one count no more: others ran beside one that loaded. The measuring run and whoever reads
    it go by this alike.
    """

    def __init__(self, plan: Plan, solo_ms: Mapping[str, float | None]) -> None:
        """``solo_ms``: of each tenant that there was, how long an iteration took while it was waited for."""
        self._silent = {name for name, ms in solo_ms.items() if ms is None and not plan.tenant(name).work.in_thread}

    def ended(self, counts: Mapping[str, int]) -> list[str]:
        """A block ended, in which tenants had so many iterations: those whose first ones these are."""
        spoke = sorted(name for name in self._silent if counts.get(name))
        self._silent.difference_update(spoke)
        return spoke
