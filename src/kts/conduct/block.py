"""One block while it runs: what has arrived of it, whether anything is missing, when it is over. Pure."""

from __future__ import annotations

from kts.errors import DataError
from kts.model.plan import Block
from kts.model.records import Records
from kts.model.run import BlockOutcome, ClockPair, ThreadWait
from kts.wire.framing import chunk_records
from kts.wire.messages import BlockDone, Chunk

MOST_THREADS = 3
"""Of a tenant, whose waits are kept."""


class RunningBlock:
    """Counts the chunks of every active tenant and refuses gaps.

    ``start_ns`` is the start that was commanded; ``deadline_ns`` is when to give the block up.
    """

    def __init__(self, block: Block, *, start_ns: int, deadline_ns: int) -> None:
        self.block = block
        self.start_ns = start_ns
        self.deadline_ns = deadline_ns
        self.stopped_ns: int | None = None
        self.iterations: dict[str, int] = dict.fromkeys(block.tenants, 0)
        self._chunks: dict[str, int] = dict.fromkeys(block.tenants, 0)
        self._counts: dict[str, int] = dict.fromkeys(block.tenants, 0)
        self._lost: dict[str, int] = {}
        self._events_lost: dict[str, int] = {}
        self._waits: dict[str, tuple[ThreadWait, ...]] = {}
        self._reached: set[str] = set()
        self._done: set[str] = set()
        self._clocks: list[ClockPair] = []
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._opened_ns: list[int] = []
        self._closed_ns: list[int] = []

    def expects(self, tenant: str, block: int) -> bool:
        """True while ``tenant`` may send chunks of the block numbered ``block``."""
        return block == self.block.index and tenant in self.block.quotas and tenant not in self._done

    def take(self, tenant: str, chunk: Chunk) -> Records:
        """The records of the next chunk. DataError if it is damaged or not the next one."""
        if chunk.seq != self._chunks[tenant]:
            raise DataError(f"chunk {chunk.seq} of block {chunk.block} came where {self._chunks[tenant]} was due")
        records = chunk_records(chunk)
        self._chunks[tenant] += 1
        self._counts[tenant] += len(records)
        self.heard(tenant, self._counts[tenant])
        if len(records):
            first, last = int(records["submit_ns"].min()), int(records["retire_ns"].max())
            self._first_ns = first if self._first_ns is None else min(first, self._first_ns)
            self._last_ns = last if self._last_ns is None else max(last, self._last_ns)
        return records

    def heard(self, tenant: str, iterations: int) -> None:
        """Notes how far a tenant says it is."""
        if tenant in self.iterations:
            self.iterations[tenant] = max(iterations, self.iterations[tenant])

    def quota_reached(self, tenant: str) -> None:
        """The tenant did what was wanted and lingers."""
        self._reached.add(tenant)

    def finished(self, tenant: str, done: BlockDone) -> None:
        """The tenant is idle again. DataError if what it announces is not what came."""
        came = (self._chunks[tenant], self._counts[tenant])
        if came != (done.chunks, done.count):
            raise DataError(
                f"block {done.block}: {done.chunks} chunks with {done.count} records announced, "
                f"{came[0]} with {came[1]} received"
            )
        self._done.add(tenant)
        if done.unread:
            self._lost[tenant] = done.unread
        if done.events_lost:
            self._events_lost[tenant] = done.events_lost
        if done.threads:
            self._waits[tenant] = done.threads[:MOST_THREADS]
        self._clocks.extend(done.clocks)
        self._opened_ns.append(done.opened_ns)
        self._closed_ns.append(done.closed_ns)

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Active tenants that have not sent BlockDone, in the plan's order."""
        return tuple(t for t in self.block.tenants if t not in self._done)

    @property
    def satisfied(self) -> bool:
        """True once every active tenant did its quota, and the lingering ones may be stopped."""
        return all(t in self._reached or t in self._done for t in self.block.tenants)

    def outcome(self, now_ns: int, *, valid: bool, reason: str = "") -> BlockOutcome:
        """How the block went. It reaches from its first submission to its last retirement as recorded
        (without records: from the commanded start to now), so that a replayed block keeps its own times."""
        start_ns = self.start_ns if self._first_ns is None else self._first_ns
        end_ns = max(now_ns, self.start_ns) if self._last_ns is None else self._last_ns
        return BlockOutcome(
            index=self.block.index,
            round=self.block.round,
            condition=self.block.condition,
            start_ns=start_ns,
            end_ns=end_ns,
            valid=valid,
            counts=dict(self._counts),
            reason=reason,
            clocks=tuple(self._clocks),
            window_ns=self._window_ns() if valid else None,
            lost=dict(self._lost),
            events_lost=dict(self._events_lost),
            waits=dict(self._waits),
        )

    def _window_ns(self) -> tuple[int, int] | None:
        """Until the last tenant's quota was reached; until they were stopped where that came first (cut short)."""
        lingers = all(quota.linger for quota in self.block.quotas.values())
        if not lingers or not all(self._opened_ns):
            return None
        closed_ns = max(self._closed_ns) if all(self._closed_ns) else self.stopped_ns
        return None if closed_ns is None else (max(self._opened_ns), closed_ns)
