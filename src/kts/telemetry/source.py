"""What every telemetry source does. One contract test suite in tests/contract holds them to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from kts.model.telemetry import Sample, Scope, SourceState

MOST = {"_ratio": 1.0, "_mhz": 20_000.0, "_w": 20_000.0, "_c": 200.0, "_threads": 1e6, "_cores": 1e5, "": 1e15}
"""By the unit in a metric's name: no device shows more."""
SLIGHTLY_ABOVE_ONE = 1.005
SEVERAL = "*"
"""In place of a tenant's name: of a process that carries several. What each of them used, nobody can tell."""


class SourceMissingError(Exception):
    """The source is not here, or no longer; the text says why, in one line."""


class Source(Protocol):
    """A thing that can be sampled. Used by one thread at a time. ``remote``: asked over a network, where an answer may
    take long; it must hold up none that is not."""

    name: str
    remote: bool

    def open(self, uuid: str) -> SourceState:
        """Gets ready to sample the device of that UUID. SourceMissingError if that cannot be; nothing is left open."""

    def sample(self) -> list[Sample]:
        """What is new since the last call; empty if nothing is. SourceMissingError if nothing more will come."""

    def state(self) -> SourceState:
        """What became of it so far."""

    def close(self) -> None:
        """Lets go of everything. Idempotent; raises nothing."""


class AbsentSource:
    """`Source` that was asked for and is not here, for a reason that is known before."""

    remote = False

    def __init__(self, name: str, why: str) -> None:
        self.name, self._why = name, why

    def open(self, uuid: str) -> SourceState:  # noqa: ARG002
        """See Source."""
        raise SourceMissingError(self._why)

    def sample(self) -> list[Sample]:
        """See Source."""
        return []

    def state(self) -> SourceState:
        """See Source."""
        return SourceState(source=self.name, missing=self._why)

    def close(self) -> None:
        """See Source."""


def samples_at(
    t_ns: int, span_ns: int, *, source: str, scope: Scope, subject: str, values: Mapping[str, float]
) -> list[Sample]:
    """What one look at ``subject`` gave: metric to value, all of the same moment and span. What cannot be is left
    out."""
    return [
        Sample(t_ns=t_ns, span_ns=span_ns, source=source, metric=metric, scope=scope, subject=subject, value=value)
        for metric, given in values.items()
        if (value := plausible(metric, given)) is not None
    ]


def by_tenant(words: Mapping[str, Collection[str]], tenants: Collection[str]) -> str:
    """What is so of which tenants, in one line; of all ``tenants``: without their names."""
    return "; ".join(
        what if len(of) == len(tenants) else f"{', '.join(sorted(of))}: {what}" for what, of in sorted(words.items())
    )


def plausible(metric: str, value: float) -> float | None:
    """The value, or None where no device can have it: sensors tell blanks and leftovers now and then. A ratio a little
    above 1 is 1: both its parts are read one after the other."""
    most = next(most for unit, most in MOST.items() if metric.endswith(unit))
    if metric.endswith("_ratio") and 1 < value <= SLIGHTLY_ABOVE_ONE:
        return 1.0
    return value if 0 <= value <= most else None
