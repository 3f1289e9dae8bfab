"""What every source of calls must do: the kernel's (here one made of files), and a recording."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from tests.helpers_tracefs import KernelOfFiles, ProcOfFiles, elf, entry, returned

from kts.watch.calls import CALL, FUNCTIONS, CallSource, Piece
from kts.watch.recording import PieceWriter, RecordedSource
from kts.watch.source import LiveSource

S = 10**9
SECONDS = 8
DRIVER = {"cuInit": 0, "cuLaunchKernel": 16, "cuStreamSynchronize": 32}


class _Played(KernelOfFiles):
    """Each wait is a second in which two processes launch and wait; the second of them ends after 4."""

    now_ns = 50 * S

    def wait(self, seconds: float) -> None:
        assert seconds <= 1, "pieces are of a second"
        at, second = self.now_ns, self.now_ns // S - 50
        for tid, cpu in ((500, 0), (600, 1)) if second < 4 else ((500, 0),):
            numbers = [self.number(name) for name in ("e0", "e22", "r22")]
            rows = []
            for k in range(9):
                launch, enter, leave = (at + 10**8 * k + 1000 * j + tid for j in range(3))
                rows += [
                    (launch, entry(numbers[0], tid)),
                    (enter, entry(numbers[1], tid)),
                    (leave, returned(numbers[2], tid)),
                ]
            self.happen(cpu, rows)
        if second == 4:
            self.processes.end(600)
        if second == 5:
            self.tell_lost(0, 7)
        self.now_ns += S

    processes: ProcOfFiles


def _live(folder: Path) -> CallSource:
    proc = ProcOfFiles(folder / "proc")
    proc.begin(os.getpid(), 1)
    library = elf(folder / "libcuda.so.1", DRIVER)
    for pid in (500, 600):
        proc.begin(pid, pid)
        proc.load(pid, library, inode=9)
    kernel = _Played(folder / "tracing", proc.root)
    kernel.processes = proc
    return LiveSource(tracefs=kernel, proc=proc.root, clock=lambda: kernel.now_ns)


def _recorded(folder: Path) -> CallSource:
    with _live(folder) as live, PieceWriter(folder / "calls", node="n", kts="1") as writer:
        for piece in islice(live.pieces(), SECONDS):
            writer.write(piece)
    return RecordedSource(folder / "calls")


@pytest.fixture(params=[_live, _recorded], ids=["live", "recorded"])
def told(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Piece]]:
    """Its first pieces."""
    made: Callable[[Path], CallSource] = request.param
    with made(tmp_path) as source:
        yield list(islice(source.pieces(), SECONDS))


def test_pieces_follow_each_other_and_hold_their_own_time(told: list[Piece]) -> None:
    """Else a window would end before its calls came."""
    untils = [piece.until_ns for piece in told]
    assert len(told) == SECONDS
    assert untils == sorted(set(untils))
    for before, piece in zip([0, *untils], told, strict=False):
        assert piece.calls.dtype == CALL
        assert (np.diff(piece.calls["ns"]) >= 0).all()
        assert (piece.calls["ns"] > before).all()
        assert (piece.calls["ns"] <= piece.until_ns).all()


def test_each_call_is_told_once(told: list[Piece]) -> None:
    """Else rates would be wrong."""
    calls = np.concatenate([piece.calls for piece in told])
    names = np.array([function.name for function in FUNCTIONS])[calls["function"]]
    assert len(np.unique(calls)) == len(calls) == 9 * 3 * (SECONDS + 4)
    assert set(names) == {"cuLaunchKernel", "cuStreamSynchronize"}
    assert (calls["returned"] == 1).sum() == len(calls) // 3


def test_a_process_is_told_before_its_calls_and_its_end_after_them(told: list[Piece]) -> None:
    """Else calls would be of nobody."""
    known: dict[int, int] = {}
    gone: list[int] = []
    for piece in told:
        known |= {one.number: one.pid for one in piece.processes}
        assert set(np.unique(piece.calls["process"]).tolist()) <= known.keys() - set(gone)
        gone += piece.gone
    assert sorted(known.values()) == [500, 600]
    assert [known[number] for number in gone] == [600]


def test_what_found_no_room_is_counted(told: list[Piece]) -> None:
    """Else it would be a quiet second."""
    assert sum(piece.lost for piece in told) == 7
