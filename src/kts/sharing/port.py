"""What a way to share must offer."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from kts.model.mode import Mode


class Sharing(Protocol):
    """A mode, as a module."""

    def prepared(self) -> AbstractContextManager[Mapping[str, str]]:
        """Prepares the mode, and restores afterwards what was before, whatever happens meanwhile.

        Environment variables for the tenants that share so. SetupError where it cannot be had here.
        """

    def variables(self, mode: Mode) -> Mapping[str, str]:
        """Those that the mode's settings need."""
