"""A fleet directory, as Python and notebooks see it: one experiment, once per node."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from kts import __version__
from kts.app import fingerprints, printing
from kts.app.handle import Run, load
from kts.errors import DataError, KtsError
from kts.model.fleet import Fleet
from kts.model.fleet_summary import FleetSummary, Hardware
from kts.model.run import RunInfo
from kts.model.summary import Estimate, Summary
from kts.report.fleet import fleet_elements
from kts.report.writing import write_fleet
from kts.stats.fleet import summarise
from kts.store import fingerprints as kept
from kts.store import fleetfile


class FleetRun:
    """A fleet directory with its figures, which are computed on first use from the runs. `load_fleet` makes it.

    ``directory``: where it is. ``fleet``: its fleet.json: nodes, their states, when.
    """

    def __init__(self, directory: Path, fleet: Fleet) -> None:
        self.directory, self.fleet = directory, fleet
        self._why: dict[str, str] = {}

    @cached_property
    def runs(self) -> dict[str, Run]:
        """The run of each node that has one with figures, by the node's name."""
        found = {}
        for node in self.fleet.nodes:
            try:
                if node.has_run:
                    run = load(self.directory / node.directory)
                    run.check_figures()
                    found[node.node] = run
            except KtsError as error:
                self._why[node.node] = error.what
        return found

    @cached_property
    def summary(self) -> FleetSummary:
        """The figures by node, and who is unlike the others: the content of fleet-summary.json."""
        measured = {node: (run.summary, _hardware(run.info, run.summary)) for node, run in self.runs.items()}
        return summarise(self.fleet, measured, self._why)

    @property
    def failure(self) -> KtsError | None:
        """The error with which the command ends: None where all nodes are complete, or undetermined at their limits."""
        outcome = self.fleet.outcome
        if outcome.exit_code == 0:
            return None
        error = KtsError(outcome.reason, outcome.remedy)
        error.exit_code = outcome.exit_code
        return error

    def report(
        self, out: str | Path | None = None, *, figures: bool = True, say: printing.Say = printing.silent
    ) -> list[Path]:
        """Writes fleet-summary.json, summary.csv, results.md, report.html and, with ``figures``, plots; their paths.

        ``out``: the directory; by default the fleet's own. ``say`` is told of a picture that could not be drawn.
        SetupError where it cannot be written.
        """
        return write_fleet(self.summary, Path(out or self.directory), __version__, figures=figures, say=say)

    def __repr__(self) -> str:
        return f"<kts.FleetRun {self.fleet.id}: {self.fleet.experiment} on {len(self.fleet.nodes)} nodes>"


printing.elements.register(FleetSummary, fleet_elements)
printing.elements.register(FleetRun, lambda run: fleet_elements(run.summary))


def is_fleet(directory: str | Path) -> bool:
    """Whether a directory is a fleet's."""
    return fleetfile.is_fleet(Path(directory))


def load_fleet(directory: str | Path) -> FleetRun:
    """The fleet in a directory, over or not. DataError if its fleet.json is missing or damaged."""
    return FleetRun(Path(directory), fleetfile.read(Path(directory)))


def _hardware(info: RunInfo, summary: Summary) -> Hardware:
    """The device as the run's workers named it, its clocks by telemetry, and what a probe told of that very device."""
    devices = list({worker.device.uuid: worker.device for worker in info.workers}.values())
    device = devices[0] if devices else None
    mode = info.sharing.likely
    slice_ms = None
    if device is not None and device.kind == "cuda":
        try:
            found = kept.find(device.uuid, device.driver, mode, fingerprints.folder())
        except DataError:  # one that cannot be read is none; `kts probe` says so
            found = None
        if found is not None:
            slice_ms = Estimate(estimate=found.slice_ms.value, lo=found.slice_ms.lo, hi=found.slice_ms.hi)
    return Hardware(
        name=device.name if device is not None else summary.device,
        driver=device.driver if device is not None else "",
        gpus=len(devices),
        mode=mode,
        sm_mhz=_mean(summary, "sm_clock_mhz"),
        memory_mhz=_mean(summary, "memory_clock_mhz"),
        slice_ms=slice_ms,
    )


def _mean(summary: Summary, metric: str) -> float | None:
    """Over the tenants' shared iterations, of whichever source told first."""
    found = [
        activity.shared.mean
        for tenant in summary.tenants.values()
        for activity in tenant.activity or ()
        if activity.metric == metric and activity.shared.mean is not None
    ]
    return sum(found) / len(found) if found else None
