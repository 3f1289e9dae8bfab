"""Who was beside a run in which of its blocks, and in which nobody looked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kts.model.neighbours import Neighbours, Presence
from kts.model.reading import RunData
from kts.model.run import BlockOutcome, ClockPair
from kts.units import format_duration, ns_to_s

Interval = tuple[int, int]
"""From, to; CLOCK_REALTIME ns."""

GAPS_NAMED = 4
NOT_WELL = "Unhealthy"


@dataclass(frozen=True)
class There:
    """Who was there, in words, and in which blocks; ``blocks`` empty: in which is not known."""

    text: str
    blocks: frozenset[int]


def uninvited(run: RunData) -> Iterator[There]:
    """Uninvited neighbours that were there in a block."""
    if (known := run.info.neighbours) is None:
        return
    blocks = realtime(run.blocks)
    own = {gpu for worker in run.info.workers for gpu in (*worker.gpus, worker.device.uuid)}
    for first, spans in _by_whom([one for one in known.others if _may_share(one, own)]):
        if when := _when(spans, run.blocks, blocks):
            where = f" on node {first.node}" if first.node else ""
            what = f" ({first.what})" if first.what else ""
            text = f"Uninvited neighbour {first.who}{what}{where}: there for {when}."
            yield There(text, _blocks(spans, run.blocks, blocks))


def unhealthy(run: RunData) -> Iterator[There]:
    """Devices of the run's own tenants that were unhealthy in a block."""
    if (known := run.info.neighbours) is None:
        return
    blocks = realtime(run.blocks)
    for first, spans in _by_whom([one for one in known.slots if _is_doubt(one)]):
        if when := _when(spans, run.blocks, blocks):
            text = f"In doubt: {first.who} had {first.what}, by the kubelet's word, for {when}."
            yield There(text, _blocks(spans, run.blocks, blocks))


def unseen_blocks(run: RunData) -> frozenset[int]:
    """Blocks in some part of which nobody looked who sees everybody; all, where nobody was to look."""
    blocks, known = realtime(run.blocks), run.info.neighbours
    if known is None or not blocks:
        return frozenset(block.index for block in run.blocks)
    return _blocks(_gaps(known, blocks), run.blocks, blocks)


def notes(run: RunData) -> Iterator[str]:
    """Blocks in which nobody looked, why not, and slots that were lost besides."""
    if (known := run.info.neighbours) is None:
        return
    blocks = realtime(run.blocks)
    for first, spans in _by_whom([one for one in known.slots if not _is_doubt(one)]):
        if when := _when(spans, run.blocks, blocks):
            yield f"{first.who}: {first.what} for {when}"
    if not blocks:
        return
    told = [when for gap in _gaps(known, blocks) if (when := _when([gap], run.blocks, blocks))]
    nobody = "nobody looked for uninvited neighbours for"
    yield from (f"{nobody} {when}" for when in told[:GAPS_NAMED])
    if len(told) > GAPS_NAMED:
        yield f"{nobody.removesuffix(' for')} in {len(told) - GAPS_NAMED} more times: run.json has them"
    if told:
        yield from (f"could not look for uninvited neighbours: {problem}" for problem in known.problems)


def realtime(blocks: Sequence[BlockOutcome]) -> list[Interval]:
    """When each block was; empty if no block read both clocks together."""
    pairs = [pair for block in blocks for pair in block.clocks]
    if not pairs:
        return []
    return [(_to_realtime(b.start_ns, b.clocks or pairs), _to_realtime(b.end_ns, b.clocks or pairs)) for b in blocks]


def _to_realtime(at_ns: int, pairs: Sequence[ClockPair]) -> int:
    nearest = min(pairs, key=lambda pair: abs(pair.monotonic_ns - at_ns))
    return at_ns + nearest.realtime_ns - nearest.monotonic_ns


def unwatched(known: Neighbours, whole: Interval) -> list[Interval]:
    """The parts of ``whole`` in which nobody looked who sees everybody. A look stands for the time to the next one."""
    watches = [(watch.from_ns - watch.every_ns, watch.to_ns + watch.every_ns) for watch in known.watches if watch.whole]
    gaps, at = [], whole[0]
    for start, end in union(watches):
        if min(start, whole[1]) > at:
            gaps.append((at, min(start, whole[1])))
        at = max(at, end)
    return [*gaps, (at, whole[1])] if at < whole[1] else gaps


def _gaps(known: Neighbours, blocks: Sequence[Interval]) -> list[Interval]:
    """The times of the run in which nobody looked, without those that the finest watch could not tell: its last look
    was still on its way when the run ended."""
    finest_ns = min((watch.every_ns for watch in known.watches if watch.whole), default=0)
    whole = min(start for start, _ in blocks), max(end for _, end in blocks)
    return [gap for gap in unwatched(known, whole) if gap[1] - gap[0] >= finest_ns]


def union(intervals: Sequence[Interval]) -> list[Interval]:
    """The same times in intervals that neither touch nor overlap, in order."""
    joined: list[Interval] = []
    for start, end in sorted(intervals):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _may_share(one: Presence, own: set[str]) -> bool:
    """False where both its devices and the run's are told, and they are others."""
    given = set(filter(None, one.device.split(",")))
    return not given or not any(gpu.startswith(("GPU-", "MIG-")) for gpu in own) or bool(given & own)


def _is_doubt(one: Presence) -> bool:
    return one.who.startswith("tenant ") and one.what.endswith(NOT_WELL)


def _by_whom(found: Sequence[Presence]) -> list[tuple[Presence, list[Interval]]]:
    """Who and what, once each, with all times in which it may have been there, whoever saw it."""
    times: dict[tuple[str, str], list[Presence]] = {}
    for one in found:
        times.setdefault((one.who, one.what), []).append(one)
    return [
        (same[0], union([(one.from_ns - one.every_ns, one.to_ns + one.every_ns) for one in same]))
        for same in times.values()
    ]


def _blocks(times: Sequence[Interval], blocks: Sequence[BlockOutcome], spans: Sequence[Interval]) -> frozenset[int]:
    """Numbers of the blocks into which some of ``times`` fell."""
    return frozenset(
        block.index
        for block, span in zip(blocks, spans, strict=False)
        if any(min(end, span[1]) > max(start, span[0]) for start, end in times)
    )


def _when(times: Sequence[Interval], blocks: Sequence[BlockOutcome], spans: Sequence[Interval]) -> str:
    """``12 s of block 3 (solo-fft)``: as much of ``times`` as fell into blocks; empty if nothing did."""
    if not spans:
        return f"{_words(sum(end - start for start, end in times))}; in which blocks is not known"
    shares = [
        (block, sum(max(0, min(end, span[1]) - max(start, span[0])) for start, end in times))
        for block, span in zip(blocks, spans, strict=True)
    ]
    within = [(block, share_ns) for block, share_ns in shares if share_ns]
    if not within:
        return ""
    conditions = ", ".join(dict.fromkeys(block.condition for block, _ in within))
    numbers = _ranges([block.index for block, _ in within])
    which = f"block{'s' if len(within) > 1 else ''} {numbers}"
    everywhere = "all blocks" if len(within) == len(blocks) > 1 else which
    return f"{_words(sum(share_ns for _, share_ns in within))} of {everywhere} ({conditions})"


def _words(ns: int) -> str:
    seconds = ns_to_s(ns)
    return format_duration(seconds) if seconds >= 1 else "under 1 s"


def _ranges(numbers: Sequence[int]) -> str:
    """``1, 3 to 5``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first} to {last}" if last > first else str(first) for first, last in runs)
