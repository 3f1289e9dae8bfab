"""What every telemetry source does. One contract test suite in tests/contract holds them to it."""

from __future__ import annotations

from typing import Protocol

from kts.model.telemetry import Sample, SourceState


class SourceMissingError(Exception):
    """The source is not here, or no longer; the text says why, in one line."""


class Source(Protocol):
    """A thing that can be sampled. Used by one thread at a time."""

    name: str

    def open(self, uuid: str) -> SourceState:
        """Gets ready to sample the device of that UUID. SourceMissingError if that cannot be; nothing is left open."""

    def sample(self) -> list[Sample]:
        """What is new since the last call; empty if nothing is. SourceMissingError if nothing more will come."""

    def state(self) -> SourceState:
        """What became of it so far."""

    def close(self) -> None:
        """Lets go of everything. Idempotent; raises nothing."""
