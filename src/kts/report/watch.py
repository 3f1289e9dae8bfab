"""Progress for a person who waits: a bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from kts.conduct.ports import Progress
from kts.model.foretold import Foretold
from kts.report import foretold
from kts.shown import first_few, one_line
from kts.units import format_duration

PLAIN_INTERVAL_S = 10.0
NAMED = 12
"""Tenants on the line of progress, at most."""


class RichWatcher:
    """A `kts.conduct.ports.Watcher` that writes to ``console`` (by default standard error).

    On a terminal one bar is drawn in place; elsewhere a plain line comes at each change of phase
    and then every ten seconds. A context manager: leaving it removes the bar.
    """

    def __init__(self, console: Console | None = None, *, now: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True)
        self._now = now
        self._bar: Bar | None = None
        self._phase = ""
        self._printed_s = 0.0
        self._foretold: Foretold | None = None
        self._silent = False

    def __enter__(self) -> RichWatcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the bar and gives the terminal back. Idempotent."""
        if self._bar is not None:
            bar, self._bar = self._bar, None
            with suppress(Exception, SystemExit):  # one that could not begin has no end, either
                bar.stop()

    def progress(self, progress: Progress) -> None:
        """Shows where the run stands, and once what it is expected to decide. Where that cannot be written, it falls
        silent."""
        if self._silent:
            return
        try:
            self._show(progress)
        except (OSError, ValueError, SystemExit):  # reader gone (rich then raises SystemExit), disk full, file closed
            self._silent = True

    def _show(self, progress: Progress) -> None:
        if progress.foretold is not None and progress.foretold != self._foretold:
            self._foretold = progress.foretold
            for line in foretold.lines(progress.foretold):
                self._console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)
        if self._console.is_terminal:
            self._draw(progress)
        elif progress.phase != self._phase or self._now() - self._printed_s >= PLAIN_INTERVAL_S:
            self._printed_s = self._now()
            self._console.print(progress_line(progress), markup=False, highlight=False, soft_wrap=True)
        self._phase = progress.phase

    def _draw(self, progress: Progress) -> None:
        if self._bar is None:
            self._bar = Bar(
                TextColumn("{task.fields[phase]}", style="bold", markup=False),
                BarColumn(bar_width=20),
                TextColumn("{task.description}", markup=False),
                console=self._console,
                transient=True,
                auto_refresh=False,  # a thread could tell nobody that it cannot write
            )
            self._bar.add_task("", total=None, phase=one_line(progress.phase))
            self._bar.start()
        total = None if progress.left_s is None else max(progress.done_s + progress.left_s, 1e-9)
        self._bar.update(
            self._bar.task_ids[0],
            total=total,
            completed=progress.done_s,
            description="  ".join(_parts(progress)),
            phase=one_line(progress.phase),
            refresh=True,
        )


def progress_line(progress: Progress) -> str:
    """One line: phase, round, what runs, iterations per tenant (``*``: active now), time left."""
    return f"{one_line(progress.phase)}: {', '.join(_parts(progress))}"


def _parts(progress: Progress) -> list[str]:
    parts = [_round(progress), progress.text]
    parts.append(_tenants(progress))
    if progress.left_s is not None:
        parts.append(f"{format_duration(progress.left_s)} left")
    elif progress.done_s:
        parts.append(f"{format_duration(progress.done_s)} so far")
    return [one_line(part) for part in parts if part]


def _tenants(progress: Progress) -> str:
    """All; of many those that are active, and of many of these the first."""
    shown = [t for t in progress.tenants if t.active or len(progress.tenants) <= NAMED]
    return first_few([f"{t.tenant}{'*' if t.active else ''} {t.iterations}" for t in shown], NAMED)


def _round(progress: Progress) -> str:
    """Empty before the first round; rounds beyond the planned ones run until the precision is reached."""
    if not progress.round:
        return ""
    extra = progress.round > progress.rounds
    return f"round {progress.round} (until decided)" if extra else f"round {progress.round}/{progress.rounds}"
