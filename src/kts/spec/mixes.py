"""Which tenants an experiment measures together: the key ``mixes``, and whom it is about."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

MAX_MIXES = 128
MIX_WORDS = ("full", "pairs", "all")


def _listed(value: object) -> object:
    """What ``mixes`` may be, told in one line instead of one per alternative."""
    if isinstance(value, str) and value in MIX_WORDS:
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(mix, (list, tuple)) for mix in value):
        if all(isinstance(name, str) for mix in value for name in mix):
            return tuple(tuple(mix) for mix in value)
        raise ValueError("every mix must be a list of tenants' names")
    raise ValueError("must be full, pairs, all, or a list of lists of tenants' names")


Mixes = Annotated[
    Literal["full", "pairs", "all"] | tuple[tuple[Annotated[str, Field(min_length=1)], ...], ...],
    BeforeValidator(_listed),
]


def check_mixes(mixes: Mixes, names: Sequence[str], subject: str | None) -> None:
    """ValueError where they are not of the tenants ``names``, do not hold the subject, or are too many."""
    seen: set[frozenset[str]] = set()
    for mix in () if isinstance(mixes, str) else mixes:
        shown = f"[{', '.join(mix)}]"
        for name in mix:
            if name not in names:
                raise ValueError(f"{shown} names {name!r}, which is no tenant{hint(name, names)}")
        if len(set(mix)) < len(mix):
            raise ValueError(f"{shown} names a tenant twice")
        if len(mix) < 2:
            alone = "every tenant" if subject is None else "the subject"
            raise ValueError(f"{shown} is no mix of 2 tenants or more; {alone} is measured alone anyway")
        if frozenset(mix) in seen:
            raise ValueError(f"{shown} is given twice")
        if subject is not None and subject not in mix:
            raise ValueError(f"{shown} is without {subject!r}, which the experiment is about (subject)")
        seen.add(frozenset(mix))
    if (count := _count(mixes, len(names), of_subject=subject is not None)) > MAX_MIXES:
        raise ValueError(f"at most {MAX_MIXES} mixes ({len(names)} tenants make {count})")


def hint(name: str, names: Sequence[str]) -> str:
    """Which tenant may be meant, or which there are."""
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; tenants: {', '.join(names)}"


def _count(mixes: Mixes, tenants: int, *, of_subject: bool) -> int:
    """How many shared conditions a round has, the full house included."""
    if mixes == "pairs":
        return tenants - 1 if of_subject else tenants * (tenants - 1) // 2 + (tenants > 2)
    if mixes == "all":
        return (1 << tenants - 1) - 1 if of_subject else (1 << tenants) - tenants - 1
    if isinstance(mixes, str):
        return 1
    return len(mixes) + (not of_subject and all(len(mix) < tenants for mix in mixes))
