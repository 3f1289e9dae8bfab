"""Had the tenant's host thread CPU cores that no other tenant and no part of kts used?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kts.model.checks import Check
from kts.model.run import RunInfo
from kts.model.summary import Activity
from kts.stats.checks.told import failed, not_applicable, passed, percent

if TYPE_CHECKING:
    from kts.stats.view import TenantView

CODE = "cores"
WAITED = 0.01
"""Of the time in which its thread wants a core in company, the share that it may wait, where cores are not its own."""
OTHERS, STRANGE = "others_cores", 0.05
"""The metric that tells how many of the tenant's cores ran something else, and how much of a core is much."""
KTS_CORES, SIBLINGS = "kts_cores", "cpu_siblings"
"""Keys of the run's environment: cores of kts itself, and which hardware threads share a physical core."""


def of_tenant(view: TenantView) -> Iterator[Check]:
    """By the cores that its worker, those of the others and kts itself were bound to, and their hardware threads; by
    the scheduler's word where they may use the same ones. A figure may be off by what its thread waited."""
    name, info = view.name, view.info
    mine = cores_of(info, name)
    if not mine:
        yield not_applicable(CODE, f"{name}: nobody recorded on which cores it ran.", name)
        return
    on_core = any(worker.tenant == name and worker.device.kind == "cpu" for worker in info.workers)
    others = {} if on_core else {t.name: cores_of(info, t.name) for t in info.plan.tenants if t.name != name}
    others["kts"] = listed(info.environment.get(KTS_CORES, ""))
    shown = _ranges(mine)
    same = [other for other, cores in others.items() if mine & cores]
    beside = [other for other, cores in others.items() if siblings(info, mine) & (cores - mine)]
    strange = None if on_core or same else _strangers(view.summary.activity or ())
    word = "cores" if len(mine) > 1 else "core"
    if strange is not None and strange > STRANGE * len(mine):
        text = f"{name}: others ran on its {word} {shown} for {percent(strange / len(mine))} of the time."
        figure = percent(strange / len(mine))
        yield failed(CODE, "cores-shared", figure, text, name, off=_waited(view.summary.activity or ()))
    elif not same and not beside:
        told = "" if others["kts"] else ", as far as it is recorded where kts ran"
        nobody = "no part of kts" if on_core else "nobody else of this run"
        text = f"{name}: {nobody} was on its {word} {shown}{told}."
        yield passed(CODE, shown, text, name)
    else:
        yield _told(view, same, beside, shown, several=len(mine) > len(others))


def _told(view: TenantView, same: Sequence[str], beside: Sequence[str], shown: str, *, several: bool) -> Check:
    """Of a tenant whose cores others could use, or had other hardware threads of. ``several``: one for each of them."""
    name = view.name
    waited = _waited(view.summary.activity or ())
    where = f"{' and '.join(same)} could use the same cores ({shown})"
    if not same:
        where = f"{' and '.join(beside)} ran on the other hardware threads of its physical cores ({shown})"
    if beside and not same:
        return failed(CODE, "cores-shared", shown, f"{name}: {where}: host times include that.", name)
    if waited is None and several:
        return not_applicable(CODE, f"{name}: {where}; no scheduler told whether it waited for one.", name)
    if waited is None or waited > WAITED:
        how = "" if waited is None else f"; its thread waited {percent(waited)} of the time in which it wanted one"
        return failed(CODE, "cores-shared", shown, f"{name}: {where}{how}: host times include that.", name, off=waited)
    text = f"{name}: {where}; its thread waited {percent(waited)} of the time in which it wanted one."
    return passed(CODE, percent(waited), text, name)


def cores_of(info: RunInfo, tenant: str) -> set[int]:
    """Those of all workers of the tenant."""
    return {core for worker in info.workers if worker.tenant == tenant for core in worker.cores}


def siblings(info: RunInfo, cores: set[int]) -> set[int]:
    """All hardware threads of the physical cores that ``cores`` are on, themselves included."""
    groups = [listed(group) for group in info.environment.get(SIBLINGS, "").split()]
    return cores.union(*(group for group in groups if group & cores))


def listed(text: str) -> set[int]:
    """``0-2,5`` as numbers; none where it is no list."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        ends = part.split("-")
        if len(ends) > 2 or not all(end.isdigit() for end in ends):
            return set()
        found.update(range(int(ends[0]), int(ends[-1]) + 1))
    return found


def _ranges(cores: set[int]) -> str:
    numbers = sorted(cores)
    return ",".join(map(str, numbers)) if len(numbers) < 5 else f"{numbers[0]} to {numbers[-1]}"


def _strangers(activity: Sequence[Activity]) -> float | None:
    """How many of its cores ran something else than the tenant, the larger mean of both sides; None: not told."""
    means = [side.block_mean for one in activity if one.metric == OTHERS for side in (one.solo, one.shared)]
    return max((mean for mean in means if mean is not None), default=None)


def _waited(activity: Sequence[Activity]) -> float | None:
    means = {one.role: one.shared.block_mean for one in activity}
    waited, ran = means.get("cpu-wait"), means.get("cpu-run")
    return None if waited is None or ran is None or waited + ran <= 0 else waited / (waited + ran)
