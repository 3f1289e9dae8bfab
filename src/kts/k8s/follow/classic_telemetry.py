"""An exporter scraped by the kts that follows a run in the classic design: nothing of ours is on the node."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from kts.conduct.keeper import Keeper
from kts.conduct.ports import Sink, Telemetry
from kts.errors import KtsError
from kts.k8s.follow.nodeclock import NodeClock
from kts.k8s.objects.settings import ClusterSettings
from kts.model.run import ClockPair, RunInfo, WorkerInfo
from kts.model.telemetry import Sample, SourceState
from kts.store import RunWriter
from kts.store.reader import stored_samples
from kts.store.samples import samples_of
from kts.telemetry import exporter_sampler
from kts.worker.clocks import clock_pair

NOT_ASKED = (
    "no telemetry: in the classic design on k8s nothing of ours runs beside the tenants, "
    "and no exporter was to be scraped (--dcgm)"
)
ATTACHED = "the exporter was scraped only while a kts followed the run: not between kts's end and kts attach"
_OF_THE_CLOCKS = "DCGM: "
"""Before the notes on whose clock the samples are."""
_STOPPED = "stopped during the run: "


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """What an earlier kts kept of a run: its sources, samples on the node's clock, and what to know of them."""

    states: tuple[SourceState, ...] = ()
    samples: tuple[Sample, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, directory: Path, info: RunInfo) -> Earlier:
        """That in ``directory``. Raises nothing: telemetry that cannot be read is named, and the run goes on."""
        series, damage = stored_samples(directory)
        notes = [note for note in info.notes if note.startswith(_OF_THE_CLOCKS)]
        return cls(states=info.telemetry, samples=tuple(samples_of(series)), notes=(*notes, *damage))

    def keep(self, sink: Sink) -> None:
        """Keeps it in the run directory that takes the place of the earlier one."""
        for state in self.states:
            sink.source(state)
        sink.samples(self.samples)
        for text in self.notes:
            sink.event("note", text=text)


class Beside:
    """Samples from the first header on, moved to the node's clock, in the run directory. ``note`` is told how."""

    def __init__(
        self,
        telemetry: Telemetry,
        sink: Sink,
        note: Callable[[str], None],
        earlier: Earlier,
        pair: Callable[[], ClockPair],
    ) -> None:
        """``pair`` reads this machine's clocks."""
        self._telemetry, self._note, self._pair = telemetry, note, pair
        self._keeper = Keeper(sink, None)
        self._clock = NodeClock()
        self._before = {state.source: state for state in earlier.states}
        self._only_before = {sample.source for sample in earlier.samples}
        self._sampled = self._closed = False

    def meet(self, worker: WorkerInfo, node: ClockPair, asked_ns: int | None) -> None:
        """A tenant's header is there: its GPU can be asked about. ``asked_ns``: see `NodeClock.meet`."""
        self._clock.meet(node, self._pair(), asked_ns)
        self._telemetry.worker(worker)

    def keep(self) -> None:
        """Keeps what is new. KtsError where the run directory cannot be written; never for what the exporter does."""
        states, samples = self._telemetry.drain()
        if samples:
            shift_ns = self._clock.shift_ns(self._pair())
            samples = [msgspec.structs.replace(sample, t_ns=sample.t_ns + shift_ns) for sample in samples]
            self._only_before -= {sample.source for sample in samples}
            self._sampled = True
            self._tell(self._clock.how())
        if error := self._keeper.telemetry([self._with_earlier(state) for state in states], samples):
            raise error

    def close(self) -> None:
        """Stops, and keeps what is left. Idempotent. KtsError as `keep`."""
        if self._closed:
            return
        self._closed = True
        self._telemetry.close()
        self.keep()
        if self._sampled:
            self._tell(self._clock.apart())

    def _tell(self, text: str) -> None:
        if text:
            self._note(_OF_THE_CLOCKS + text)

    def _with_earlier(self, state: SourceState) -> SourceState:
        """What to say of a source as long as all its samples are an earlier kts's."""
        if state.source not in self._only_before:
            return state
        before = self._before.get(state.source, state)
        if not state.missing:
            return before
        return msgspec.structs.replace(before, missing=_STOPPED + state.missing.removeprefix(_STOPPED))


def beside(
    settings: ClusterSettings, writer: RunWriter, note: Callable[[str], None], earlier: Earlier
) -> Beside | None:
    """The telemetry that ``settings`` ask for; None if that is none. UsageError if the exporter's URL is none."""
    if not (settings.telemetry and settings.dcgm):
        if settings.telemetry:
            note(NOT_ASKED)
        return None
    return Beside(exporter_sampler(settings.dcgm), writer, note, earlier, clock_pair)


def closed(beside: Beside | None) -> None:
    """Ends it where the run directory's own end comes anyway."""
    if beside is not None:
        with contextlib.suppress(KtsError):
            beside.close()
