"""A run that measured several modes, seen as a run of each of them; when it has measured enough. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from kts.model.mode import SharingMode
from kts.model.plan import InMode, Plan
from kts.model.reading import RunData
from kts.model.records import Records
from kts.model.run import BlockOutcome
from kts.stats.part import RunPart, renamed
from kts.stats.stopping import PrecisionRule


def views(run: RunData) -> dict[str, RunPart]:
    """By the mode's name, in the plan's order; not of the exclusive use, which shares nothing."""
    plan = run.info.plan
    return {
        one.mode.name: RunPart(
            run,
            plan.in_mode(one.mode.name),
            tenants=_tenants(one),
            conditions=_conditions(plan, one),
            workers=frozenset(one.tenants.values()),
            mode=SharingMode(asked=one.mode.kind, limit=one.mode.limit),
            foretold=tuple(told.in_mode(one.mode.name) for told in run.info.foretold),
        )
        for one in plan.modes
        if one.mixes
    }


def mixes(plan: Plan) -> dict[str, tuple[str, ...]]:
    """By what all modes call it, each mix that was measured in any of them: its tenants, by the names that all modes
    have in common. Where a mode has fewer of them, those of the mode with most."""
    found: dict[str, tuple[str, ...]] = {}
    for arm in plan.modes:
        for mix in arm.mixes:
            found[mix] = max(found.get(mix, ()), tuple(_members(plan, arm, mix)), key=len)
    return found


def of_mix(run: RunData, mix: str) -> RunPart:
    """A run that measured several mixes in modes, as if it had been about one of them; ``mix``: what all modes call
    it. Its tenants keep the names of the plan. KeyError if the plan has no such mix."""
    plan = run.info.plan
    members = {name for arm in plan.modes if mix in arm.mixes for name in _members(plan, arm, mix)}
    if not members:
        raise KeyError(f"no mix {mix}")
    arms = tuple(
        replace(
            arm,
            tenants={plain: name for plain, name in arm.tenants.items() if plain in members},
            mixes={plain: name for plain, name in arm.mixes.items() if plain == mix},
        )
        for arm in plan.modes
        if not arm.mixes or mix in arm.mixes
    )
    names = {name for arm in arms for name in arm.tenants.values()} | members
    wanted = {name for arm in arms for name in arm.mixes.values()}
    conditions = tuple(
        one for one in plan.conditions if one.name in wanted or (one.is_solo and set(one.tenants) <= members)
    )
    part = replace(
        plan, tenants=tuple(one for one in plan.tenants if one.name in names), conditions=conditions, modes=arms
    )
    return RunPart(
        run, part, tenants={name: name for name in names}, conditions={one.name: one.name for one in conditions}
    )


def _members(plan: Plan, arm: InMode, mix: str) -> list[str]:
    plain_of = {name: plain for plain, name in arm.tenants.items()}
    return [plain_of[name] for name in plan.condition(arm.mixes[mix]).tenants]


class ModesRule:
    """Reached once the DF99 of every tenant is settled in every mode. A `kts.conduct.ports.StopRule`."""

    def __init__(self, plan: Plan, precision: float) -> None:
        self._rules = [_OneRule(plan, one, precision) for one in plan.modes if one.mixes]

    def take(self, tenant: str, records: Records) -> None:
        """See StopRule."""
        for one in self._rules:
            if tenant in one.tenants:
                one.rule.take(one.tenants[tenant], records)

    def end(self, outcome: BlockOutcome) -> None:
        """See StopRule."""
        for one in self._rules:
            ours = outcome.condition in one.conditions
            one.rule.end(renamed(outcome, one.tenants, one.conditions) if ours else replace(outcome, valid=False))

    def forget(self, tenant: str) -> None:
        """See StopRule."""
        for one in self._rules:
            if tenant in one.tenants:
                one.rule.forget(one.tenants[tenant])

    def reached(self) -> bool:
        """See StopRule."""
        return all(one.rule.reached() for one in self._rules)

    def widths(self) -> dict[str, float | None]:
        """Of every tenant the widest of all modes; None while one is refused."""
        found: dict[str, float | None] = {}
        for one in self._rules:
            for name, width in one.rule.widths().items():
                known = found.get(name, 0.0)
                found[name] = None if width is None or known is None else max(known, width)
        return found


class _OneRule:
    def __init__(self, plan: Plan, one: InMode, precision: float) -> None:
        self.tenants, self.conditions = _tenants(one), _conditions(plan, one)
        self.rule = PrecisionRule(plan.in_mode(one.mode.name), precision)


def _tenants(one: InMode) -> dict[str, str]:
    """Those that run alone, and those of the mode."""
    return {plain: plain for plain in one.tenants} | {tenant: plain for plain, tenant in one.tenants.items()}


def _conditions(plan: Plan, one: InMode) -> dict[str, str]:
    alone = {condition.name: condition.name for condition in plan.conditions if condition.is_solo}
    return alone | {mix: plain for plain, mix in one.mixes.items()}
