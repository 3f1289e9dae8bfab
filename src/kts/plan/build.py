"""Experiment to plan."""

from __future__ import annotations

from hashlib import blake2b
from itertools import combinations
from typing import TYPE_CHECKING

from kts.model.plan import Condition, Plan, Slo, Tenant
from kts.plan.blocks import derive

if TYPE_CHECKING:
    from kts.spec.models import Experiment, TenantSpec

DEFAULT_MAX_ROUNDS = 1_000
_LONGEST_NAME = 80


def build(experiment: Experiment) -> Plan:
    """The plan of an experiment: every tenant alone, the mixes asked for, and all tenants together.

    Replicas become tenants of their own, each with its solo: a tenant is only ever compared with itself alone.
    Sizes stay None where calibration has yet to find them. The classic design has exactly one round.
    """
    classic = experiment.design == "classic"
    rounds = 1 if classic else experiment.rounds
    sequential = not classic and experiment.precision is not None
    return Plan(
        name=experiment.name,
        design=experiment.design,
        tenants=tuple(_tenant(experiment, name, spec) for name, spec in experiment.expanded.items()),
        conditions=_conditions(tuple(experiment.expanded), experiment.mixes),
        rounds=rounds,
        max_rounds=max(rounds, experiment.max_rounds or DEFAULT_MAX_ROUNDS) if sequential else rounds,
        precision=experiment.precision if sequential else None,
        max_seconds=experiment.max_seconds if not classic else None,
        device=experiment.device,
        seed=experiment.seed,
        allow_different_gpus=experiment.allow_different_gpus,
    )


def _conditions(names: tuple[str, ...], mixes: str | tuple[tuple[str, ...], ...]) -> tuple[Condition, ...]:
    """Solos, then mixes by size, the full house last."""
    alone = tuple(Condition(name=f"solo-{name}", tenants=(name,)) for name in names)
    if mixes == "pairs":
        wanted: list[tuple[str, ...]] = list(combinations(names, 2))
    elif mixes == "all":
        wanted = [mix for size in range(2, len(names)) for mix in combinations(names, size)]
    else:
        listed = () if isinstance(mixes, str) else mixes
        wanted = sorted((tuple(name for name in names if name in mix) for mix in listed), key=len)
    together = [Condition(name=_mix_name(mix), tenants=mix) for mix in wanted if mix != names]
    house = f"shared-{'+'.join(names)}"
    if len(house) > _LONGEST_NAME:
        house = f"shared-all-{len(names)}"
    return (*alone, *together, Condition(name=house, tenants=names))


def _mix_name(mix: tuple[str, ...]) -> str:
    """``shared-a+b``; what is too long is cut, and told apart by a digest of the whole."""
    name = f"shared-{'+'.join(mix)}"
    if len(name) <= _LONGEST_NAME:
        return name
    digest = blake2b(name.encode(), digest_size=4).hexdigest()
    return f"{name[: _LONGEST_NAME - len(digest) - 1]}+{digest}"


def _tenant(experiment: Experiment, name: str, spec: TenantSpec) -> Tenant:
    return Tenant(
        name=name,
        work=spec.work(experiment.library),
        arrivals=spec.process(),
        iterations=spec.wanted_iterations,
        seconds=spec.seconds,
        slo=Slo(p99_ms=spec.slo.p99_ms, deadline_ms=spec.slo.deadline_ms),
        seed=derive(experiment.seed, "tenant", name),
    )
