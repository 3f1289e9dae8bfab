"""The blocks of run.json against the records that are there: whatever does not agree is not analysed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from kts.model.records import Records
from kts.model.run import BlockOutcome, RunInfo
from kts.model.starting import Starting
from kts.plan import blocks_of_round


class RecordSource(Protocol):
    """Where records come from: `Journal`, `ParquetRecords`, or logs in memory."""

    @property
    def counts(self) -> dict[tuple[str, int], int]:
        """Records per tenant and block."""

    def read(self, tenant: str, block: int) -> Records:
        """The records as they were written."""

    def portions(self, tenant: str, block: int) -> Iterator[Records]:
        """The same in parts, if their numbers rise from part to part; else in one."""


def reconcile(
    info: RunInfo, source: RecordSource, broken: dict[tuple[str, int], str], ended: str
) -> tuple[tuple[BlockOutcome, ...], list[str]]:
    """(blocks in order of time, damage lines).

    A block whose records do not match its counts, or lack a chunk, becomes invalid. Records of a block
    that run.json does not know get an invalid block with the reason ``ended``.
    """
    damage: list[str] = []
    present: dict[int, dict[str, int]] = {}
    for (tenant, block), count in source.counts.items():
        if count:
            present.setdefault(block, {})[tenant] = count
    known = {outcome.index for outcome in info.blocks}
    lacking = {block: reason for (_, block), reason in broken.items()}
    blocks = [_checked(outcome, present.get(outcome.index, {}), lacking, damage) for outcome in info.blocks]
    blocks += [_unfinished(info, source, index, present[index], ended) for index in sorted(present.keys() - known)]
    in_time = sorted(blocks, key=lambda outcome: (outcome.start_ns, outcome.index))
    starting = Starting(info.plan, {worker.tenant: worker.solo_ms for worker in info.workers})
    for n, outcome in enumerate(in_time):
        for program in starting.ended(outcome.counts):
            in_time[: n + 1] = [_beside_starting(one, program) for one in in_time[: n + 1]]
    return tuple(in_time), damage


def _beside_starting(block: BlockOutcome, program: str) -> BlockOutcome:
    """The block, invalid where that program took part."""
    reason = f"{program} was still starting (KTS_SETTLE_S in its env: how long its first iteration is waited for)"
    takes_part = program in block.counts
    return msgspec.structs.replace(block, valid=False, reason=block.reason or reason) if takes_part else block


def _checked(
    outcome: BlockOutcome, present: dict[str, int], lacking: dict[int, str], damage: list[str]
) -> BlockOutcome:
    """The outcome, made invalid if its records are not those it announces.

    In a block that is invalid already, a tenant that died announced nothing; more than announced is
    no damage there.
    """
    reasons = [lacking[outcome.index]] if outcome.index in lacking else []
    for tenant in sorted(outcome.counts.keys() | present.keys()):
        announced, found = outcome.counts.get(tenant, 0), present.get(tenant, 0)
        if found < announced or (found > announced and outcome.valid):
            reasons.append(f"{found} of {announced} announced records of {tenant}")
            damage.append(f"block {outcome.index}: {reasons[-1]}")
    if not reasons:
        return outcome
    reason = "; ".join(filter(None, (outcome.reason, *reasons)))
    return msgspec.structs.replace(outcome, valid=False, reason=reason)


def _unfinished(info: RunInfo, source: RecordSource, index: int, counts: dict[str, int], ended: str) -> BlockOutcome:
    spans = [source.read(tenant, index) for tenant in counts]
    round_number = index // len(info.plan.conditions)
    condition = next(block.condition for block in blocks_of_round(info.plan, round_number) if block.index == index)
    return BlockOutcome(
        index=index,
        round=round_number,
        condition=condition,
        start_ns=int(min(records["submit_ns"].min() for records in spans)),
        end_ns=int(max(records["retire_ns"].max() for records in spans)),
        valid=False,
        counts=counts,
        reason=ended,
    )
