"""A directory that `kts watch --out` wrote, as Python and the commands that report see it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from kts import __version__, files
from kts.app import printing
from kts.errors import DataError, UsageError
from kts.report.watching import explained_elements, watch_elements
from kts.report.writing import write_watch
from kts.watch.live import WATCH_VERSION, Watched, WatchNow

STATE, RECORDING = "watch.json", "watch.recording"
_REMEDY = "kts watch --for 60 --out DIR makes one"


class WatchRun:
    """A directory of `kts watch --out`. ``directory``: where it is; its recording is RECORDING there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @cached_property
    def summary(self) -> WatchNow:
        """What it came to: the content of watch.json. DataError, also where whoever watched was killed before."""
        path = self.directory / STATE
        if not path.exists():
            raise DataError(
                f"{self.directory}: watching was killed before it came to figures",
                f"what was seen is kept: kts watch --from {self.directory}",
            )
        raw = files.read(path, _REMEDY, pipes=False)
        return files.decode(raw, WatchNow, str(path), "not a watch", _REMEDY, newest=WATCH_VERSION)

    def report(
        self, out: str | Path | None = None, *, figures: bool = True, say: printing.Say = printing.silent
    ) -> list[Path]:
        """Writes summary.csv, results.md and report.html; there are no pictures. ``out``: the directory, by default its
        own. SetupError where it cannot be written."""
        del figures, say
        return write_watch(self.summary, Path(out or self.directory), __version__)

    def __repr__(self) -> str:
        return f"<kts.WatchRun {self.directory}>"


class WatchExplained:
    """Of whom to say whom it waits for."""

    def __init__(self, state: WatchNow, units: Sequence[Watched]) -> None:
        self.state, self.units = state, tuple(units)


printing.elements.register(WatchNow, watch_elements)
printing.elements.register(WatchRun, lambda run: watch_elements(run.summary))
printing.elements.register(WatchExplained, lambda of: explained_elements(of.state, of.units))


def is_watch(directory: str | Path) -> bool:
    """Whether `kts watch --out` wrote it."""
    return any((Path(directory) / name).is_file() for name in (STATE, RECORDING))


def load_watch(directory: str | Path) -> WatchRun:
    """The directory of a watch."""
    return WatchRun(Path(directory))


def explain_watch(directory: str | Path, units: Sequence[str] = ()) -> WatchExplained:
    """Whom each unit waits for, and what would settle it. ``units``: by default all. UsageError for one that is not
    there, DataError."""
    state = load_watch(directory).summary
    there = {one.unit for one in state.units}
    for name in units:
        if name not in there:
            raise UsageError(f"no unit {name!r} in this watch", f"there are: {', '.join(sorted(there)) or 'none'}")
    return WatchExplained(state, [one for one in state.units if one.unit in units or not units])
