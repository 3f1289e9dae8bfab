"""Watching from a recording: at its pace, kept in a directory, ended by whoever ends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.helpers_watch import GPU, pieces, recording

from kts.app.watched import RECORDING, STATE, explain_watch, is_watch, load_watch
from kts.app.watching import Clocks, WatchAsked, states, watch
from kts.errors import DataError, UsageError
from kts.watch.calls import Piece
from kts.watch.live import WatchNow
from kts.watch.recording import RecordedSource
from kts.worker.host import boot_id


class Clock:
    """Moves only where it is waited for."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.waited: list[float] = []

    def wait(self, seconds: float) -> None:
        """The time has passed."""
        self.waited.append(seconds)
        self.now_s += seconds

    @property
    def clocks(self) -> Clocks:
        """As `watch` takes them."""
        return Clocks(lambda: self.now_s, self.wait)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 s of two pods."""
    return recording(tmp_path_factory.mktemp("recorded") / "file", 30)


@pytest.mark.parametrize("pace", [1.0, 10.0])
def test_a_recording_comes_at_the_pace_that_is_asked_for(recorded: Path, pace: float) -> None:
    """Else a Prometheus that scrapes a recording would see its hours in a moment, or for ever."""
    clock, shown = Clock(), list[WatchNow]()
    watch(WatchAsked(recording=recorded, pace=pace), shown.append, clocks=clock.clocks)
    assert sum(clock.waited) == pytest.approx(30 / pace, rel=0.01)
    assert [one.at_ns for one in shown] == sorted(one.at_ns for one in shown)
    assert len(shown) == pytest.approx(30 if pace == 1.0 else 6, abs=1)


def test_at_once_it_shows_no_more_than_anyone_can_see(recorded: Path) -> None:
    """Else a week would take as long to draw as to read."""
    clock, shown = Clock(), list[WatchNow]()
    last = watch(WatchAsked(recording=recorded), shown.append, clocks=clock.clocks)
    assert (len(shown), clock.waited) == (2, [])
    assert last is shown[-1]
    assert last.calls == sum(len(piece.calls) for piece in pieces(30))


def test_it_ends_after_the_seconds_that_are_asked_for(recorded: Path) -> None:
    """Else --for would be a wish."""
    last = watch(WatchAsked(recording=recorded, seconds=12))
    assert (last.at_ns - next(pieces(1)).calls["ns"][0]) / 1e9 == pytest.approx(12, abs=1)
    assert last.window_s == pytest.approx(12, abs=1)


def test_figures_of_the_first_seconds_are_not_told_as_of_a_whole_window(recorded: Path) -> None:
    """Else a rate of three seconds would pass for one of a minute."""
    last = watch(WatchAsked(recording=recorded, seconds=3, window_s=60.0))
    assert last.window_s == pytest.approx(3, abs=1)


def test_a_gpu_that_is_lost_is_told_to_whoever_is_on_it() -> None:
    """Else a pod whose GPU fell off its bus would seem to have nothing to do."""
    answers = iter([(), (GPU,), ()])
    clock = Clock()

    def paced() -> Iterator[Piece]:
        for piece in pieces(15):
            clock.now_s += 1.0
            yield piece

    *_, last = states(paced(), "node-1", WatchAsked(), clock.clocks, lambda: next(answers))
    told = [one for one in last.happened if one.what == "gpu-lost"]
    assert sorted(one.unit for one in told) == ["shop/api/main", "shop/train/main"]
    assert GPU in told[0].words


def test_what_is_kept_is_what_was_seen(recorded: Path, tmp_path: Path) -> None:
    """Else what is watched again from it would be another run."""
    last = watch(WatchAsked(recording=recorded, out=tmp_path / "out"), clocks=Clock().clocks)
    with RecordedSource(tmp_path / "out" / RECORDING) as source:
        again = list(source.pieces())
    assert not source.damage
    assert source.head.boot_id == boot_id()  # a node that started anew since is told apart
    assert np.array_equal(np.concatenate([p.calls for p in again]), np.concatenate([p.calls for p in pieces(30)]))
    assert load_watch(tmp_path / "out").summary == last
    assert watch(WatchAsked(recording=tmp_path / "out"), clocks=Clock().clocks) == last
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        RECORDING,
        STATE,
        "summary.csv",
        "results.md",
        "report.html",
    }


def test_whoever_is_interrupted_keeps_what_was_seen(recorded: Path, tmp_path: Path) -> None:
    """Else an hour would be lost to one key."""
    clock, shown = Clock(), []

    def show(state: WatchNow) -> None:
        shown.append(state)
        if len(shown) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(WatchAsked(recording=recorded, pace=1.0, out=tmp_path / "out"), show, clocks=clock.clocks)
    assert load_watch(tmp_path / "out").summary == shown[-1]
    with RecordedSource(tmp_path / "out" / RECORDING) as source:
        assert sum(len(piece.calls) for piece in source.pieces()) == shown[-1].calls


def test_nothing_of_others_is_overwritten(recorded: Path, tmp_path: Path) -> None:
    """Else --out of a home directory would cost files."""
    (tmp_path / "letter").write_text("dear", encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="holds something else"):
            watch(WatchAsked(recording=recorded, out=tmp_path, overwrite=overwrite))
    out = tmp_path / "out"
    watch(WatchAsked(recording=recorded, out=out))
    with pytest.raises(UsageError, match="holds a watch already"):
        watch(WatchAsked(recording=recorded, out=out))
    assert watch(WatchAsked(recording=recorded, seconds=5, out=out, overwrite=True)) == load_watch(out).summary


def test_a_watch_that_was_killed_says_how_to_have_its_figures(recorded: Path, tmp_path: Path) -> None:
    """Else what it recorded would seem lost."""
    (tmp_path / RECORDING).write_bytes(recorded.read_bytes())
    assert is_watch(tmp_path)
    with pytest.raises(DataError, match="killed") as caught:
        _ = load_watch(tmp_path).summary
    assert f"kts watch --from {tmp_path}" in caught.value.remedy


def test_a_unit_that_is_not_there_is_named(recorded: Path, tmp_path: Path) -> None:
    """Else kts explain would answer with nothing."""
    watch(WatchAsked(recording=recorded, out=tmp_path / "out"))
    with pytest.raises(UsageError, match="no unit 'shop/web'") as caught:
        explain_watch(tmp_path / "out", ["shop/web"])
    assert "shop/api/main, shop/train/main" in caught.value.remedy
