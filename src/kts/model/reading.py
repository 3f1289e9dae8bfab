"""What analysis and reports need of a run that was read back. Implemented by `kts.store` and by test doubles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from kts.model.cluster import ClusterFacts
from kts.model.records import Records
from kts.model.run import BlockOutcome, RunInfo
from kts.model.telemetry import SampleSeries


class RunData(Protocol):
    """A run, readable block by block so that its records never have to be in memory at once."""

    @property
    def info(self) -> RunInfo:
        """run.json, or what stands for it (a directory of KTS_APP logs)."""

    @property
    def blocks(self) -> Sequence[BlockOutcome]:
        """Blocks that hold records, in order of time; ``valid`` says which may be analysed."""

    @property
    def damage(self) -> Sequence[str]:
        """What could not be read, one line each: torn tails, gaps, foreign lines. Empty if all is well."""

    @property
    def cluster(self) -> ClusterFacts | None:
        """What the cluster said of the run; None where it was in none, or where that cannot be read (``damage`` then
        says so)."""

    def records(self, tenant: str, block: int) -> Records:
        """The records of a tenant in a block, in order of ``i``. Empty array if it has none."""

    def portions(self, tenant: str, block: int) -> Iterator[Records]:
        """The same in one or several parts, so that a large block need not be in memory at once."""

    def telemetry(self) -> Sequence[SampleSeries]:
        """All samples taken beside the records, one entry per source, metric and subject. Empty if there are none,
        or if they cannot be read (``damage`` then says so): records never depend on them."""
