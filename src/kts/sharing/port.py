"""What a way to share must offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from kts.model.plan import InMode
from kts.model.sharing_facts import SharedMachine


def _none() -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Held:
    """What was prepared. ``env``: by the plan's name of a tenant, what its environment must have. ``trouble``: what has
    gone wrong with it since, and what else a reader must know, in words; it may be asked at any time. ``before``: the
    machine before anything was prepared; None where no mode was asked for."""

    env: Mapping[str, Mapping[str, str]]
    trouble: Callable[[], tuple[str, ...]] = _none
    before: SharedMachine | None = None


class Sharing(Protocol):
    """A mode, as a module."""

    def prepared(self, arms: Sequence[InMode]) -> AbstractContextManager[Held]:
        """Prepares what these modes of its kind need, and restores afterwards what was before, whatever happens
        meanwhile. SetupError where it cannot be had here."""
