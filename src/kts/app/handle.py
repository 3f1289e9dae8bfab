"""A run that was measured, as Python and notebooks see it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from kts.app import printing
from kts.errors import DataError, KtsError, SetupError, UsageError
from kts.model.gate import Gate
from kts.model.modes import ModesSummary
from kts.model.reading import RunData
from kts.model.records import Clock, Records, clock_ms, joined
from kts.model.run import Outcome, RunInfo
from kts.model.summary import Summary
from kts.report import markdown, run_document, write
from kts.report.document import Document
from kts.report.gate import pair_document
from kts.report.modes import modes_document, modes_elements
from kts.report.writing import write_gate, write_modes
from kts.stats import Analysis, analyse
from kts.stats.choosing import modes_summary
from kts.stats.modes import mixes, of_mix, views
from kts.stats.pair_gate import compared
from kts.store import open_run
from kts.store.sharingfile import read_sharing

MODES = "modes"
"""Where the reports of the single modes are, in a run directory."""


class Run:
    """A run directory, or a directory of KTS_APP logs, with its figures. `load` and `run` make it.

    ``directory``: where it is. ``data``: block by block, as `kts.model.reading.RunData` has it. ``outcome``: how it
    ended. The figures are computed on first use, from the records.
    """

    def __init__(self, directory: Path, data: RunData, outcome: Outcome | None = None) -> None:
        self.directory = directory
        self.data = data
        self.outcome = outcome or data.info.outcome

    @property
    def info(self) -> RunInfo:
        """All that is recorded of it besides records: plan, workers, blocks, environment (run.json)."""
        return self.data.info

    @property
    def tenants(self) -> tuple[str, ...]:
        """Names, in the plan's order."""
        return tuple(tenant.name for tenant in self.info.plan.tenants)

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the sets of tenants that were active together, such as ``solo-fft`` and ``shared-fft+gemm``."""
        return tuple(condition.name for condition in self.info.plan.conditions)

    @property
    def has_figures(self) -> bool:
        """True if at least one block may be analysed."""
        return any(block.valid for block in self.data.blocks)

    @property
    def failure(self) -> KtsError | None:
        """The error with which `kts run` ends: None where the run is complete, or undetermined at its limits."""
        return _failure(self.outcome)

    @cached_property
    def analysis(self) -> Analysis:
        """Figures and what the pictures need."""
        return analyse(self.data)

    @property
    def summary(self) -> Summary:
        """The figures, with intervals: the content of summary.json. Without `has_figures` it refuses each."""
        return self.analysis.summary

    @cached_property
    def gate(self) -> Gate | None:
        """Of a run that measured a pair: what its comparison comes to. None of all others."""
        return compared(self.data, self.summary) if self.info.plan.pair is not None else None

    @cached_property
    def modes(self) -> ModesSummary | None:
        """Of a run that measured several modes: what each comes to, and the choice. None of all others."""
        return self.modes_by({})

    def modes_by(self, slo: Mapping[str, float]) -> ModesSummary | None:
        """As `modes`, where these p99s (ms, by tenant) are promised in place of the experiment's, or besides.
        UsageError for a tenant that is not there."""
        if not self.info.plan.modes:
            return None
        for name in slo:
            _check("tenant", name, tuple(next(iter(self._in_modes.values())).tenants))
        found = {name: one.summary for name, one in self._in_modes.items()}
        facts = read_sharing(self.directory)
        return replace(modes_summary(self.data, found, slo, facts.turns if facts else None), machine=facts)

    def in_mode(self, name: str) -> Run:
        """A run in several modes, as if one of them had been measured alone. UsageError for a mode that is not
        there, or in which nothing is shared."""
        if name not in self._in_modes:
            raise UsageError(f"no mode {name!r} in this run", f"there are: {', '.join(self._in_modes) or 'none'}")
        return self._in_modes[name]

    def shared_as(self, mode: str = "") -> Run:
        """The run itself; one in several modes as `in_mode`, in the one of this name, else the first of this kind, by
        default the first. UsageError where there is none."""
        if not self.info.plan.modes or mode in self._in_modes:
            return self.in_mode(mode) if mode in self._in_modes else self
        kinds = {name: view.info.sharing.asked for name, view in self._in_modes.items()}
        return self.in_mode(next((name for name, kind in kinds.items() if mode in ("", kind)), mode))

    def of_mix(self, *tenants: str) -> Run:
        """A run of several mixes in modes, as if it had been about the mix of these tenants alone: its `modes` and the
        choice between them. UsageError for a mix that it has not measured in a mode."""
        named = {frozenset(mix): name for name, mix in mixes(self.info.plan).items()}
        if frozenset(tenants) not in named:
            known = ", ".join("+".join(mix) for mix in self.mixes)
            raise UsageError(f"no mix of {', '.join(tenants)} in modes in this run", f"there are: {known or 'none'}")
        return Run(self.directory, of_mix(self.data, named[frozenset(tenants)]), self.outcome)

    @property
    def mixes(self) -> tuple[tuple[str, ...], ...]:
        """The mixes that it has measured in modes, each by its tenants, as `of_mix` takes them; empty of all other
        runs."""
        return tuple(mixes(self.info.plan).values())

    @cached_property
    def _in_modes(self) -> dict[str, Run]:
        return {name: Run(self.directory / MODES / name, view) for name, view in views(self.data).items()}

    @property
    def result(self) -> Summary | Gate | ModesSummary:
        """What the run is about: a comparison of two versions or of modes where it measured these, else its figures."""
        return self.gate or self.modes or self.summary

    def records(self, tenant: str, condition: str | None = None) -> Records:
        """Every recorded iteration of a tenant in valid blocks, in order of time; of all conditions, or of one.

        Shape ``(n,)``, dtype `kts.model.records.RECORD`: ``i``, ``due_ns``, ``submit_ns``, ``retire_ns``,
        ``device_ms``; with ``launches``, ``waits`` and ``mark.NAME`` where the tenant has them. Includes those that
        figures leave out (the first of a block, iterations without all their neighbours). UsageError for a tenant or
        condition that is not there.
        """
        _check("tenant", tenant, self.tenants)
        if condition is not None:
            _check("condition", condition, self.conditions)
        wanted = (b for b in self.data.blocks if b.valid and condition in (None, b.condition))
        return joined(self.data.records(tenant, block.index) for block in wanted)

    def latencies_ms(
        self, tenant: str, condition: str | None = None, clock: Clock = "response"
    ) -> npt.NDArray[np.float64]:
        """The latency of each of `records`, in milliseconds, shape ``(n,)``.

        ``clock``: response (retire - due), service (retire - submit), or device (the device's own stopwatch; NaN
        where there is none).
        """
        return clock_ms(self.records(tenant, condition), clock)

    def report(
        self, out: str | Path | None = None, *, figures: bool = True, say: printing.Say = printing.silent
    ) -> list[Path]:
        """Writes summary.json, summary.csv, results.md, report.html and, with ``figures``, plots; returns their paths.
        Of a pair gate.json, and no plots. Of a run in several modes modes.json in place of summary.json, one plot, and
        a report of each mode in modes/NAME.

        ``out``: the directory; by default the run's own. ``say`` is told of pictures that could not be drawn. DataError
        where no block may be analysed, SetupError where the directory cannot be written.
        """
        self.check_figures()
        if out is None and not self.directory.is_dir():
            raise SetupError(f"{self.directory} is no directory that a report could be written into")
        if out is None:
            _check_writable(self.directory)
        if self.gate is not None:
            return write_gate(self.gate, self.summary, self.data, Path(out or self.directory))
        if self.modes is not None:
            return self._report_modes(self.modes, Path(out or self.directory), figures=figures, say=say)
        return write(self.data, self.analysis, Path(out or self.directory), figures=figures, say=say)

    def _report_modes(self, modes: ModesSummary, out: Path, *, figures: bool, say: printing.Say) -> list[Path]:
        written = write_modes(modes, self.data, out, figures=figures, say=say)
        for name, one in self._in_modes.items():
            if one.has_figures:
                written += write(one.data, one.analysis, out / MODES / name, figures=False)
        return written

    def check_figures(self) -> None:
        """DataError where no block may be analysed."""
        if not self.has_figures:
            reasons = dict.fromkeys(block.reason for block in self.data.blocks if block.reason)
            why = self.info.outcome.reason or "; ".join(reasons) or "no block was finished"
            raise DataError(
                f"{self.directory}: nothing to report: {why}", "measure again; what the workers said is in logs/"
            )

    def __repr__(self) -> str:
        return f"<kts.Run {self.info.id}: {' + '.join(self.tenants)}, {self.info.plan.design}, {self.outcome.kind}>"

    def _repr_markdown_(self) -> str:
        return markdown.render(_document(self)) if self.has_figures else repr(self)


printing.elements.register(Summary, lambda summary: run_document(summary).elements)
printing.elements.register(ModesSummary, modes_elements)
printing.elements.register(Run, lambda run: _document(run).elements)


def _document(run: Run) -> Document:
    if run.gate is not None:
        return pair_document(run.gate, run.summary, run.data)
    if run.modes is not None:
        return modes_document(run.modes, run.data)
    return run_document(run.summary, run.data)


def load(directory: str | Path | Run, *, trim: int = 0) -> Run:
    """The run in a directory: kts's own, finished or not, or KTS_APP v1 logs; of these also one file, or ``-``, stdin.

    ``trim`` leaves out the first iterations of each log, as warm-up. DataError if there is nothing to read,
    UsageError if a run of kts's own is to be trimmed.
    """
    if isinstance(directory, Run):
        return directory
    return Run(Path(directory), open_run(Path(directory), trim))


def report(
    run: str | Path | Run,
    out: str | Path | None = None,
    *,
    figures: bool = True,
    trim: int = 0,
    say: printing.Say = printing.silent,
) -> list[Path]:
    """Writes the report of a run or of a directory of logs, as `Run.report` does; returns the paths."""
    return load(run, trim=trim).report(out, figures=figures, say=say)


def finished(directory: Path, outcome: Outcome) -> Run:
    """The run that was just measured. Where nothing of it can be read, the error is why it failed."""
    try:
        return Run(directory, open_run(directory), outcome)
    except KtsError as error:
        raise _failure(outcome) or error from None


def _failure(outcome: Outcome) -> KtsError | None:
    if outcome.exit_code == 0:
        return None
    error = KtsError(outcome.reason or f"the run is {outcome.kind}", outcome.remedy)
    error.exit_code = outcome.exit_code
    return error


def _check(what: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise UsageError(f"no {what} {name!r} in this run", f"there are: {', '.join(names)}")


def _check_writable(directory: Path) -> None:
    """SetupError if nothing can be written there: known before the figures are drawn."""
    try:
        with tempfile.TemporaryFile(dir=directory):
            return
    except OSError as error:
        raise SetupError(f"{directory} cannot be written ({error.strerror or error})") from error
