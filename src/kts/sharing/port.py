"""What a way to share must offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from kts.model.plan import InMode


def _none() -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Held:
    """What was prepared. ``env``: by the plan's name of a tenant, what its environment must have. ``trouble``: what has
    gone wrong with it since, in words; it may be asked at any time."""

    env: Mapping[str, Mapping[str, str]]
    trouble: Callable[[], tuple[str, ...]] = _none


class Sharing(Protocol):
    """A mode, as a module."""

    def prepared(self, arms: Sequence[InMode]) -> AbstractContextManager[Held]:
        """Prepares what these modes of its kind need, and restores afterwards what was before, whatever happens
        meanwhile. SetupError where it cannot be had here."""
