"""Sequential stopping: measure until the answer is as precise as asked, and an answer."""

from __future__ import annotations

from kts.model.plan import Plan
from kts.model.records import Records
from kts.model.run import BlockOutcome
from kts.model.summary import Estimate
from kts.stats.degradation import degradation
from kts.stats.responses import Responses
from kts.stats.sample import make_sample, split_blocks
from kts.stats.verdict import half_width, settled


class PrecisionRule:
    """Reached once the 95 % interval of every asked tenant's response DF99 is within +-``precision`` (relative) and its
    verdict is settled (`kts.stats.verdict.settled`), in the full house and in every other mix that the plan measures.

    A program of the user's that has no records is a neighbour, and nothing is asked of it.

    A `kts.conduct.ports.StopRule`. The estimator is the final one, so what stops the run is what the report prints.
    What it keeps has a bound (`kts.stats.responses`). Of a tenant's mixes the one that was not settled last time is
    looked at first, and no other while that one is not.
    """

    def __init__(self, plan: Plan, precision: float, *, confidence: float = 0.95) -> None:
        self._precision, self._confidence = precision, confidence
        self._names = plan.asked
        self._programs = {tenant.name for tenant in plan.tenants if not tenant.work.in_thread}
        self._mixes_of = {name: [mix.name for mix in plan.mixes if name in mix.tenants] for name in self._names}
        self._solo_of = {c.tenants[0]: c.name for c in plan.conditions if c.is_solo}
        wanted = {*self._solo_of.values(), *(mix.name for mix in plan.mixes)}
        self._responses = Responses(wanted, plan.max_rounds)
        self._kept = self._responses.blocks
        self._looked: dict[str, tuple[float | None, bool]] | None = None

    def take(self, tenant: str, records: Records) -> None:
        """See StopRule."""
        self._responses.take(tenant, records)

    def end(self, outcome: BlockOutcome) -> None:
        """See StopRule."""
        if self._responses.end(outcome):
            self._looked = None

    def forget(self, tenant: str) -> None:
        """See StopRule."""
        self._responses.forget(tenant)
        self._looked = None

    def reached(self) -> bool:
        """True once every tenant's verdict is settled. False while any DF99 is refused."""
        found = self._look().values()
        return bool(found) and all(done for _, done in found)

    def widths(self) -> dict[str, float | None]:
        """Relative half-width of each tenant's DF99 interval so far, in a mix that is not settled if there is one.

        None while it is refused. Neighbours have none.
        """
        return {name: width for name, (width, _) in self._look().items()}

    def _look(self) -> dict[str, tuple[float | None, bool]]:
        """Of every tenant that is asked for: half-width, and whether all its mixes are settled."""
        if self._looked is None:
            self._looked = {name: self._look_at(name) for name in self._names if self._counts(name)}
        return self._looked

    def _counts(self, name: str) -> bool:
        return name not in self._programs or any(tenant == name for tenant, _ in self._kept)

    def _look_at(self, name: str) -> tuple[float | None, bool]:
        """Of the first mix that is not settled, or of the widest."""
        mixes = self._mixes_of[name]
        widest = 0.0
        for mix in list(mixes):
            df = self._df_in(name, mix)
            width = half_width(df)
            if width is None or not settled(df, self._precision):
                mixes.remove(mix)
                mixes.insert(0, mix)
                return width, False
            widest = max(widest, width)
        return (widest, True) if mixes else (None, False)

    def _df_in(self, name: str, mix: str) -> Estimate:
        blocks = [self._kept.get((name, condition), []) for condition in (self._solo_of.get(name, ""), mix)]
        split = split_blocks(*({number for number, _ in side} for side in blocks))
        solo, shared = (make_sample(side, split=split) for side in blocks)
        return degradation(shared, solo, 0.99, self._confidence)
