"""What pods take of a namespace's ResourceQuotas, and whether there is enough left. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from kts.k8s.objects import Object, quantity

Amounts = Mapping[str, Decimal]
"""By a quota's own keys, e.g. ``requests.nvidia.com/gpu``."""
_PLAIN = ("cpu", "memory", "ephemeral-storage")
"""Which a quota may also name without ``requests.``"""


def asked(specs: Iterable[Object]) -> Amounts:
    """What pods of these specs take together."""
    total: defaultdict[str, Decimal] = defaultdict(Decimal)
    for spec in specs:
        for key in ("pods", "count/pods"):
            total[key] += 1
        for part in ("requests", "limits"):
            for name, amount in _of_pod(spec, part).items():
                total[f"{part}.{name}"] += amount
                if part == "requests" and name in _PLAIN:
                    total[name] += amount
    return total


def lacking(quotas: Sequence[Object], wanted: Amounts) -> list[str]:
    """What the quotas leave no room for, in words. Those for pods of some scope only are left to the server."""
    short = []
    for quota in quotas:
        spec, status = quota.get("spec") or {}, quota.get("status") or {}
        if spec.get("scopes") or spec.get("scopeSelector"):
            continue
        used = status.get("used") or {}
        for key, text in (status.get("hard") or spec.get("hard") or {}).items():
            hard, taken = quantity.value(text), quantity.value(used.get(key, 0))
            if key in wanted and hard is not None and taken is not None and taken + wanted[key] > hard:
                asks = f"the run asks for {_number(wanted[key])}"
                short.append(f"quota {quota['metadata']['name']}: {key}: {used.get(key, 0)} of {text} in use, {asks}")
    return short


def _of_pod(spec: Object, part: str) -> dict[str, Decimal]:
    """As the scheduler counts: containers together, or the largest init container where that is more."""
    together = _sum(spec.get("containers") or (), part)
    for container in spec.get("initContainers") or ():
        for name, amount in _sum([container], part).items():
            together[name] = max(amount, together.get(name, Decimal(0)))
    return together


def _sum(containers: Iterable[Object], part: str) -> dict[str, Decimal]:
    total: dict[str, Decimal] = {}
    for container in containers:
        resources = container.get("resources") or {}
        limits = resources.get("limits") or {}
        given = limits if part == "limits" else {**limits, **(resources.get("requests") or {})}
        for name, text in given.items():
            total[name] = total.get(name, Decimal(0)) + (quantity.value(text) or 0)
    return total


def _number(amount: Decimal) -> str:
    """Without an exponent or needless zeros."""
    return f"{amount.normalize():f}"
