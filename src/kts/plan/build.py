"""Experiment to plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kts.model.plan import Closed, Condition, Plan, Slo, Tenant, Work
from kts.plan.seeds import derive

if TYPE_CHECKING:
    from kts.spec.models import Experiment, TenantSpec

DEFAULT_MAX_ROUNDS = 1_000
_LONGEST_NAME = 80


def build(experiment: Experiment) -> Plan:
    """The plan of an experiment: every tenant alone, and all of them together.

    Sizes stay None where calibration has yet to find them. The classic design has exactly one round.
    """
    classic = experiment.design == "classic"
    rounds = 1 if classic else experiment.rounds
    sequential = not classic and experiment.precision is not None
    return Plan(
        name=experiment.name,
        design=experiment.design,
        tenants=tuple(_tenant(experiment, name, spec) for name, spec in experiment.tenants.items()),
        conditions=_conditions(tuple(experiment.tenants)),
        rounds=rounds,
        max_rounds=max(rounds, experiment.max_rounds or DEFAULT_MAX_ROUNDS) if sequential else rounds,
        precision=experiment.precision if sequential else None,
        max_seconds=experiment.max_seconds if not classic else None,
        device=experiment.device,
        seed=experiment.seed,
        allow_different_gpus=experiment.allow_different_gpus,
    )


def _conditions(names: tuple[str, ...]) -> tuple[Condition, ...]:
    alone = tuple(Condition(name=f"solo-{name}", tenants=(name,)) for name in names)
    together = f"shared-{'+'.join(names)}"
    if len(together) > _LONGEST_NAME:
        together = f"shared-all-{len(names)}"
    return (*alone, Condition(name=together, tenants=names))


def _tenant(experiment: Experiment, name: str, spec: TenantSpec) -> Tenant:
    return Tenant(
        name=name,
        work=_work(experiment, spec),
        arrivals=Closed(think_ms=spec.think_ms, jitter=spec.jitter),
        iterations=spec.wanted_iterations,
        seconds=spec.seconds,
        slo=Slo(p99_ms=spec.slo.p99_ms, deadline_ms=spec.slo.deadline_ms),
        seed=derive(experiment.seed, "tenant", name),
    )


def _work(experiment: Experiment, spec: TenantSpec) -> Work:
    if spec.workload == "command":
        return Work(workload="command", command=spec.command, env=spec.env, warmup=spec.warmup)
    return Work(
        workload=spec.workload,
        size=spec.wanted_size,
        target_ms=spec.target_ms,
        library=spec.library or experiment.library,
        warmup=spec.warmup,
    )
