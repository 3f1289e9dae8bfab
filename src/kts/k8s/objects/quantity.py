"""Kubernetes' quantities as numbers: the API server writes 1000 slots as ``1k``. Pure."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

from kts.errors import SetupError

_FORM = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))"
    r"(?P<unit>[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2})?"
)
_LONGEST = 64
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


def value(text: object) -> Decimal | None:
    """What a quantity stands for; None if Kubernetes would not take it."""
    form = _FORM.fullmatch(str(text)) if not isinstance(text, bool) and len(str(text)) <= _LONGEST else None
    if form is None:
        return None
    number, unit = Decimal(form["number"]), form["unit"] or ""
    if unit in _BINARY:
        return number * Decimal(1024) ** _BINARY[unit]
    return number.scaleb(_DECIMAL[unit] if unit in _DECIMAL else int(unit[1:] or 0))


def count(text: object, what: str) -> int:
    """A quantity of things, where a part counts as a whole one, as for the scheduler. SetupError naming ``what``."""
    amount = value(text)
    if amount is None:
        raise SetupError(f"{what}: {text!r} is no quantity of Kubernetes", "see what wrote it; kubectl get -o yaml")
    return int(amount.to_integral_value(ROUND_CEILING))
