"""Whether a tenant was let work as asked: what is throttled, or has a sidecar, must not be judged as shared."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from tests.helpers_stats import SHARED, Array, make_plan, make_run

from kts.model.summary import Summary
from kts.stats import analyse

PLAN = make_plan(rounds=10)
SLOWER = 1.5


def slower(name: str, side: str, _: int) -> tuple[Array, Array]:
    """Both tenants, clearly slower when shared."""
    del name
    values = np.random.default_rng(1).normal(3.6, 0.02, 400) * (SLOWER if side == SHARED else 1.0)
    return values, values * 0.9


def analysed(kind: str = "cuda", altered: dict[str, tuple[str, ...]] | None = None, **worker: Any) -> Summary:
    """Of a run whose tenant fft had such a pod, and such a worker."""
    run = make_run(PLAN, slower, kind=kind)
    workers = [msgspec.structs.replace(w, **(worker if w.tenant == "fft" else {})) for w in run.info.workers]
    run.info = msgspec.structs.replace(run.info, workers=tuple(workers), altered=altered or {})
    return analyse(run).summary


@pytest.mark.parametrize(
    ("kind", "cores", "cpu_limit", "held_back"),
    [
        ("cpu", (1,), 0.5, True),
        ("cpu", (1,), 1.0, False),  # one core is all that it has
        ("cpu", (0, 1), 1.5, True),
        ("cpu", (1,), None, False),
        ("cuda", tuple(range(16)), 1.0, False),  # what a run asks for
        ("cuda", tuple(range(16)), 0.5, True),
    ],
)
def test_a_cpu_limit_that_can_throttle_leaves_no_verdict(
    kind: str, cores: tuple[int, ...], cpu_limit: float | None, held_back: bool
) -> None:
    """Else waiting for the next period of a limit would be called the neighbour's doing."""
    summary = analysed(kind, cores=cores, cpu_limit=cpu_limit)
    verdict = summary.tenants["fft"].verdict
    assert (verdict.kind == "undetermined") == held_back
    assert ("cpu-limit" in [w.code for w in summary.warnings if w.tenant == "fft"]) == held_back
    assert not held_back or f"CPU limit of {cpu_limit} CPUs" in verdict.sentence


def test_a_pod_that_is_not_as_asked_is_a_failed_check_for_it_and_its_neighbours() -> None:
    """Else a sidecar that a webhook adds would be silent, or cost its own tenant alone."""
    summary = analysed(altered={"fft": ("container istio-proxy, not asked for",)})
    assert {name: tenant.verdict.kind for name, tenant in summary.tenants.items()} == {
        "fft": "undetermined",
        "gemm": "undetermined",
    }
    assert "istio-proxy" in summary.tenants["fft"].verdict.sentence
    assert "of its neighbour fft" in summary.tenants["gemm"].verdict.sentence
    assert [(w.code, w.tenant) for w in summary.warnings if w.code == "not-as-asked"] == [("not-as-asked", "fft")]


def test_a_run_that_was_let_work_keeps_its_verdict() -> None:
    """Else every verdict of every older run would be taken back."""
    assert {tenant.verdict.kind for tenant in analysed().tenants.values()} == {"worse"}
