"""What would be enough for a run that cannot decide all in its time."""

from __future__ import annotations

import math
from collections.abc import Mapping

from kts.model.plan import Plan

MARGIN = 1.2
"""By how much longer rounds may be than calibration makes believe; when some were measured, `MEASURED_MARGIN`."""
MEASURED_MARGIN = 1.05


def enough(
    plan: Plan, seconds: Mapping[str, float], needed: Mapping[tuple[str, str], float], rounds: float, *, measured: bool
) -> tuple[str, ...]:
    """Ways to choose from; none where ``rounds`` are. ``seconds``: of a block, by condition; ``needed``: rounds until
    all of a tenant in a condition is decided."""
    if max(needed.values(), default=0.0) <= rounds:
        return ()
    margin = MEASURED_MARGIN if measured else MARGIN
    ways = [_way(plan, sum(seconds.values()) * margin, needed)]
    if len({_plain(plan, mix.name) for mix in plan.mixes}) > 1 and not plan.subject:
        house = _plain(plan, plan.full_house.name)
        fewer = {name: s for name, s in seconds.items() if plan.condition(name).is_solo or _plain(plan, name) == house}
        of_these = {place: count for place, count in needed.items() if place[1] in fewer}
        other = _way(plan, sum(fewer.values()) * margin, of_these)
        ways.append(f"`mixes: full` and {other}" if other else "`mixes: full` in the same time")
    return tuple(way for way in ways if way)


def enough_time(plan: Plan, wanted_s: float, *, measured: bool) -> tuple[str, ...]:
    """The same for a run whose blocks are as long as its time lets them; ``wanted_s``: seconds that would do."""
    wanted_s *= MEASURED_MARGIN if measured else MARGIN
    if plan.max_seconds is None or not plan.max_seconds < wanted_s < math.inf:
        return ()
    return (f"--max-seconds {_rounded_up(wanted_s)}",)


def _plain(plan: Plan, condition: str) -> str:
    return plan.mode_of(condition)[1]


def _way(plan: Plan, round_s: float, needed: Mapping[tuple[str, str], float]) -> str:
    """Empty where the plan's own limits are enough."""
    most = max(needed.values())
    if math.isinf(most):
        return "longer blocks: fewer rounds, or more iterations or seconds of each tenant"
    parts = []
    times = 1.0
    if plan.precision is not None:
        if most > plan.max_rounds:
            parts.append(f"`max_rounds: {_rounded_up(most)}`")
    elif most > plan.rounds:
        times, most = most / plan.rounds, plan.rounds
        parts.append(_amounts(plan, needed))
    total_s = most * times * round_s
    if plan.max_seconds is not None and total_s > plan.max_seconds:
        parts.append(f"--max-seconds {_rounded_up(total_s)}")
    return " and ".join(parts)


def _amounts(plan: Plan, needed: Mapping[tuple[str, str], float]) -> str:
    """More of each tenant that has too few, where the number of rounds is fixed: then they are longer. In the classic
    design of all: who ends first decides how many of the others' iterations count."""
    wanted = []
    classic = plan.design == "classic"
    for tenant in (one for one in plan.tenants if plan.plain(one.name) == one.name):
        mine = (count for (name, _), count in needed.items() if classic or plan.plain(name) == tenant.name)
        times = max(mine, default=0) / plan.rounds
        if times > 1 and tenant.iterations is not None:
            wanted.append(f"`iterations: {_rounded_up(tenant.iterations * times)}` for {tenant.name}")
        elif times > 1 and tenant.seconds is not None:
            wanted.append(f"`seconds: {_rounded_up(tenant.seconds * times)}` for {tenant.name}")
    return ", ".join(wanted)


def _rounded_up(value: float) -> int:
    """To two digits."""
    step = 10 ** max(0, math.floor(math.log10(max(value, 1))) - 1)
    return int(math.ceil(value / step - 1e-9) * step)
