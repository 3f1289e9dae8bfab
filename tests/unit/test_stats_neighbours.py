"""What a report says of neighbours: who, in which blocks, how long; and in which nobody looked."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest
from tests.helpers_store import CPU, make_plan

from kts.model.mode import SharingMode
from kts.model.neighbours import Look, Neighbours, Presence, Seen
from kts.model.reading import RunData
from kts.model.run import BlockOutcome, ClockPair, RunInfo, WorkerInfo
from kts.stats import neighbours

S = 1_000_000_000
OFFSET_NS = 1_000_000 * S
"""Of the clock of the blocks to that of the looks."""


@dataclass(frozen=True)
class Run:
    """As much of RunData as is asked."""

    info: RunInfo

    @property
    def blocks(self) -> tuple[BlockOutcome, ...]:
        return self.info.blocks


def run(known: Neighbours | None, *, gpus: tuple[str, ...] = (), clocks: bool = True) -> RunData:
    """Blocks 0 to 3 of 10 s each, 2 s apart, from 100 s on."""
    conditions = ("solo-fft", "solo-gemm", "shared-fft+gemm", "solo-fft")
    blocks = tuple(
        BlockOutcome(
            index=n,
            round=n // 3,
            condition=condition,
            start_ns=(100 + 12 * n) * S,
            end_ns=(110 + 12 * n) * S,
            valid=True,
            clocks=(ClockPair(realtime_ns=OFFSET_NS, monotonic_ns=0),) if clocks else (),
        )
        for n, condition in enumerate(conditions)
    )
    worker = WorkerInfo(tenant="fft", pid=1, hostname="h", device=CPU, gpus=gpus)
    info = RunInfo(
        schema=3,
        id="r",
        kts="0",
        backend="k8s",
        mode=SharingMode(),
        created_ns=0,
        plan=make_plan(),
        workers=(worker,),
        blocks=blocks,
        neighbours=known,
    )
    return Run(info)  # type: ignore[return-value]


def watched(start_s: int, end_s: int, *, seen: tuple[int, int] = (0, 0), **what: str) -> Neighbours:
    """A look a second from ``start_s`` to ``end_s`` of the blocks' clock; somebody there from ``seen`` to its end."""
    known = Neighbours()
    one = Seen(who=what.get("who", "other/x"), what=what.get("what", "1 nvidia.com/gpu"), device=what.get("device", ""))
    for at_s in range(start_s, end_s + 1):
        there = (one,) if seen[0] <= at_s <= seen[1] else ()
        kind = {"slots": there} if "slot" in what else {"others": there}
        known = known.after(Look(by="t", every_ns=S, at_ns=OFFSET_NS + at_s * S, node="n", **kind))
    return known


def test_a_neighbour_is_said_with_its_blocks_and_how_long() -> None:
    """Else nobody could tell which figures it is in."""
    (caution,) = neighbours.uninvited(run(watched(90, 150, seen=(106, 126))))
    assert caution.text == (
        "Uninvited neighbour other/x (1 nvidia.com/gpu) on node n: there for 18 s of blocks 0 to 2 "
        "(solo-fft, solo-gemm, shared-fft+gemm)."
    )


@pytest.mark.parametrize("seen", [(90, 97), (148, 150)], ids=["before", "after"])
def test_who_was_there_in_no_block_is_in_no_figure(seen: tuple[int, int]) -> None:
    """Else the pods of the run before, on their way out, would be in every report."""
    assert list(neighbours.uninvited(run(watched(90, 150, seen=seen)))) == []


@pytest.mark.parametrize(
    ("device", "gpus", "said"),
    [("GPU-b", ("GPU-a",), False), ("GPU-a", ("GPU-a",), True), ("", ("GPU-a",), True), ("GPU-b", (), True)],
)
def test_a_holder_of_another_gpu_is_none(device: str, gpus: tuple[str, ...], said: bool) -> None:
    """Else each run on a node of eight GPUs would have seven neighbours; and where nobody tells, none is ruled out."""
    known = watched(90, 150, seen=(106, 126), device=device)
    assert bool(list(neighbours.uninvited(run(known, gpus=gpus)))) == said


def test_two_watchers_tell_of_one_neighbour_once() -> None:
    """Else the same pod would be two, and its time doubled."""
    known = watched(90, 150, seen=(106, 126))
    again = [msgspec.structs.replace(one, by="u") for one in known.others]
    both = msgspec.structs.replace(known, others=(*known.others, *again))
    assert list(neighbours.uninvited(run(both))) == list(neighbours.uninvited(run(known)))


def test_blocks_in_which_nobody_looked_are_named() -> None:
    """Else "nobody was seen" would pass for "nobody was there"."""
    assert list(neighbours.notes(run(watched(90, 109)))) == [
        "nobody looked for uninvited neighbours for 30 s of blocks 1 to 3 (solo-gemm, shared-fft+gemm, solo-fft)"
    ]
    refused = Neighbours().after(Look(by="a kts", every_ns=S, problem="not allowed"))
    assert list(neighbours.notes(run(refused))) == [
        "nobody looked for uninvited neighbours for 40 s of all blocks (solo-fft, solo-gemm, shared-fft+gemm)",
        "could not look for uninvited neighbours: a kts: not allowed",
    ]


@pytest.mark.parametrize("known", [None, watched(90, 150)], ids=["never recorded", "watched"])
def test_a_run_that_was_watched_or_is_older_says_nothing(known: Neighbours | None) -> None:
    """Else every report would carry lines that mean nothing."""
    assert list(neighbours.notes(run(known))) == list(neighbours.uninvited(run(known))) == []


def test_a_partial_look_is_no_watch() -> None:
    """Else a container's list of its own processes would prove that nobody else was there."""
    partly = watched(90, 150)
    partly = msgspec.structs.replace(
        partly, watches=tuple(msgspec.structs.replace(one, whole=False) for one in partly.watches)
    )
    assert len(list(neighbours.notes(run(partly)))) == 1


def test_an_unhealthy_device_of_the_runs_own_is_a_doubt_and_a_lost_slot_a_note() -> None:
    """Else an Xid would be in the figures unseen, or a slot of nobody's throw doubt on them."""
    ill = watched(90, 150, seen=(113, 115), slot="", who="tenant fft", what="GPU-a::2 Unhealthy")
    (doubt,) = neighbours.unhealthy(run(ill))
    assert "GPU-a::2 Unhealthy" in doubt.text
    for who, what in (("tenant fft", "GPU-a::2 Unknown"), ("node n", "3 of 4 nvidia.com/gpu allocatable")):
        lost = run(watched(90, 150, seen=(113, 115), slot="", who=who, what=what))
        assert list(neighbours.unhealthy(lost)) == []
        assert list(neighbours.notes(lost)) == [f"{who}: {what} for 4 s of block 1 (solo-gemm)"]


def test_without_the_clocks_of_blocks_the_neighbour_is_still_said() -> None:
    """Else a run that lost its clocks would lose its neighbours."""
    (caution,) = neighbours.uninvited(run(watched(90, 150, seen=(106, 126)), clocks=False))
    assert "in which blocks is not known" in caution.text


def test_presences_are_bounded() -> None:
    """Else a cluster of short jobs would grow run.json without end."""
    known = Neighbours()
    for n in range(1200):
        known = known.after(Look(by="t", every_ns=1, at_ns=n, others=(Seen(who=str(n)),)))
    assert len(known.others) <= 1000
    assert known.problems
    assert isinstance(known.others[0], Presence)
