"""run.json of older schemas as the newest has it: one step per schema, at the edge where it is read."""

from __future__ import annotations

from typing import Any

from kts.model.plan import PROGRAM

_KERNEL = ("workload", "size", "target_ms", "library", "warmup", "decoder")
_PROGRAM = ("command", "env", "warmup")


def upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a run.json, decoded, of this schema or an older one, in today's shape. Never raises for content
    of an unforeseen shape: that is left as it is, for the reader to refuse."""
    plan, mode = content.get("plan"), content.get("mode")
    if isinstance(mode, str):  # before schema 3: a word, whose evidence nobody kept
        content = {**content, "mode": {"recorded": mode}}
    return {**content, "plan": upgraded_plan(plan)} if isinstance(plan, dict) else content


def upgraded_plan(plan: dict[str, Any]) -> dict[str, Any]:
    """The same for a plan. Before schema 3 a tenant's work was one shape for all, told apart by ``workload``."""
    tenants = plan.get("tenants")
    if not isinstance(tenants, list):
        return plan
    return {**plan, "tenants": [_tenant(tenant) for tenant in tenants]}


def _tenant(tenant: Any) -> Any:
    work = tenant.get("work") if isinstance(tenant, dict) else None
    if not isinstance(work, dict) or "type" in work or "workload" not in work:
        return tenant
    kind, keys = ("program", _PROGRAM) if work["workload"] == PROGRAM else ("kernel", _KERNEL)
    return {**tenant, "work": {"type": kind, **{key: work[key] for key in keys if key in work}}}
