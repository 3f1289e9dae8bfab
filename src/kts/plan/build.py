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
    """The plan of an experiment: every tenant alone, or its subject alone; the mixes asked for; all tenants together.

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
        conditions=_conditions(tuple(experiment.expanded), experiment.mixes, experiment.subject),
        subject=experiment.subject or "",
        rounds=rounds,
        max_rounds=max(rounds, experiment.max_rounds or DEFAULT_MAX_ROUNDS) if sequential else rounds,
        precision=experiment.precision if sequential else None,
        max_seconds=experiment.max_seconds if not classic else None,
        device=experiment.device,
        seed=experiment.seed,
        allow_different_gpus=experiment.allow_different_gpus,
    )


def _conditions(
    names: tuple[str, ...], mixes: str | tuple[tuple[str, ...], ...], subject: str | None
) -> tuple[Condition, ...]:
    """Solos, then mixes by size, the full house last. With a ``subject`` its own solo, and only mixes that hold it."""
    asked = names if subject is None else (subject,)
    if mixes == "pairs":
        wanted: list[tuple[str, ...]] = list(combinations(names, 2))
    elif mixes == "all":
        wanted = [mix for size in range(2, len(names) + 1) for mix in combinations(names, size)]
    else:
        listed = () if isinstance(mixes, str) else mixes
        wanted = sorted((tuple(name for name in names if name in mix) for mix in listed), key=len)
    if subject is None or mixes == "full":
        wanted = [*(mix for mix in wanted if mix != names), names]
    together = [mix for mix in wanted if subject is None or subject in mix]
    return (
        *(Condition(name=f"solo-{name}", tenants=(name,)) for name in asked),
        *(Condition(name=_mix_name(mix, whole=mix == names), tenants=mix) for mix in together),
    )


def _mix_name(mix: tuple[str, ...], *, whole: bool) -> str:
    """``shared-a+b``; what is too long is cut, and told apart by a digest of the whole. ``whole``: all tenants."""
    name = f"shared-{'+'.join(mix)}"
    if len(name) <= _LONGEST_NAME:
        return name
    if whole:
        return f"shared-all-{len(mix)}"
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
