"""Polls the sources ten times a second, and never disturbs the run.

One thread polls what is here of the device, one what is here of the cores, another one what is asked over a network: a
slow answer there must not thin out the samples here. They are started by the conductor's, whose cores they inherit:
those that no tenant has. A source that fails is named and dropped, the others go on.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from kts.model.run import WorkerInfo
from kts.model.telemetry import Sample, SourceState
from kts.telemetry.cores import CoresSource
from kts.telemetry.host import HostSource
from kts.telemetry.source import SEVERAL, Source, SourceMissingError
from kts.telemetry.strangers import Strangers
from kts.units import NS_PER_MS, NS_PER_S, NS_PER_US
from kts.wire.messages import Heartbeat

PERIOD_NS = 100 * NS_PER_MS
CORES_PERIOD_NS = 50 * NS_PER_MS
JOIN_S = 2.0
MOST_UNDRAINED = 200_000
"""Samples kept for a driver that does not come for them; then the newest are dropped."""


class Tenants(NamedTuple):
    """Who the tenants are, as known when asked. ``by_pid``: those of this pid namespace, `SEVERAL` where a process
    carries more than one; ``by_host``: of other hosts, and a pod is one whose name is the pod's."""

    by_pid: Callable[[], Mapping[int, str]] = dict
    by_host: Callable[[], Mapping[str, str]] = dict


MakeSources = Callable[[Tenants], Sequence[Source]]
"""Makes the polled sources."""


class Sampler:
    """Implements `kts.conduct.ports.Telemetry`. Sources of the device begin when the first tenant on a GPU is known."""

    def __init__(
        self,
        make: MakeSources,
        *,
        period_ns: int = PERIOD_NS,
        clock: Callable[[], int] = time.monotonic_ns,
        strangers: Strangers | None = None,
    ) -> None:
        self._make = make
        self._strangers = strangers
        self._period_ns = period_ns
        self._clock = clock
        self._lock = threading.Lock()
        self._states: list[SourceState] = []
        self._samples: list[Sample] = []
        self._pids: dict[int, str] = {}
        self._hosts: dict[str, str] = {}
        self._uuids: list[str] = []
        self._others: set[str] = set()
        self._over = threading.Event()
        self._threads: dict[threading.Thread, list[str]] = {}  # to the names of its sources
        self._cores = CoresSource()
        self._host = HostSource(self._cores.busy_cores)
        self._of_device = False
        self._closed = False

    def worker(self, info: WorkerInfo) -> None:
        """See Telemetry."""
        if self._closed:
            return
        self._cores.worker(info)
        if not self._threads:
            self._begin("telemetry-cores", "", [self._cores], CORES_PERIOD_NS)
        with self._lock:
            if info.hostname != socket.gethostname():
                self._hosts[info.hostname] = info.tenant
            elif Path(f"/proc/{info.pid}").exists():
                known = self._pids.get(info.pid, info.tenant)
                self._pids[info.pid] = info.tenant if known == info.tenant else SEVERAL
        if info.device.kind != "cuda":
            self._others.add(info.device.label)
            return
        if info.device.uuid not in self._uuids:
            self._uuids.append(info.device.uuid)
        if not self._of_device:
            self._of_device = True
            self._start(info.device.uuid)
        if self._strangers is not None:
            self._strangers.worker(info)

    def heartbeat(self, tenant: str, beat: Heartbeat) -> None:
        """See Telemetry."""
        self._host.heartbeat(tenant, beat)

    def block_over(self) -> None:
        """See Telemetry."""
        self._host.block_over()

    def drain(self) -> tuple[list[SourceState], list[Sample]]:
        """See Telemetry."""
        with self._lock:
            states, self._states = self._states, []
            samples, self._samples = self._samples, []
        return states, samples + self._host.sample()

    def close(self) -> None:
        """See Telemetry. Sources that were never begun are named, too."""
        if self._closed:
            return
        self._closed = True
        self._over.set()
        if self._strangers is not None:
            self._strangers.close()
        self._join()
        if not self._of_device:
            where = ", ".join(sorted(self._others))
            why = f"the tenants are on {where}" if where else "no tenant opened its device"
            for source in self._make(Tenants()):
                self._tell(SourceState(source=source.name, missing=why))
        self._tell(self._host.state())
        self._host.close()
        if not self._threads:
            self._tell(self._cores.state())

    def _tell(self, state: SourceState) -> None:
        with self._lock:
            self._states.append(state)

    def _tenants(self) -> dict[int, str]:
        with self._lock:
            return dict(self._pids)

    def _tenant_hosts(self) -> dict[str, str]:
        with self._lock:
            return dict(self._hosts)

    def _start(self, uuid: str) -> None:
        """A thread for what is here, and one for what is asked over a network."""
        sources = self._make(Tenants(self._tenants, self._tenant_hosts))
        for name, remote in (("telemetry", False), ("telemetry-remote", True)):
            if of := [source for source in sources if source.remote == remote]:
                self._begin(name, uuid, of, self._period_ns)

    def _begin(self, name: str, uuid: str, sources: Sequence[Source], period_ns: int) -> None:
        thread = threading.Thread(target=self._run, args=(uuid, sources, period_ns), name=name, daemon=True)
        self._threads[thread] = [source.name for source in sources]
        thread.start()

    def _join(self) -> None:
        """Waits for the threads; a source that hangs is left where it is, and named."""
        for thread in self._threads:
            thread.join(JOIN_S)
        for thread, names in self._threads.items():
            if thread.is_alive():
                for name in names:
                    self._tell(SourceState(source=name, missing="it did not answer any more when the run ended"))

    def _run(self, uuid: str, sources: Sequence[Source], period_ns: int) -> None:
        """A thread. Whatever a source does, the run goes on."""
        round_robin = Polling(sources, uuid, self._clock)
        for state in round_robin.open():
            self._tell(state)
        next_ns = self._clock()
        while round_robin.live and not self._over.wait(max(0, next_ns - self._clock()) / NS_PER_S):
            states, samples = round_robin.poll()
            with self._lock:
                self._states += states
                self._samples += samples[: MOST_UNDRAINED - len(self._samples)]
            now_ns = self._clock()
            next_ns += period_ns * max(1, -((next_ns - now_ns) // period_ns))  # what was missed is missed
        for state in round_robin.close():
            several = f"of {uuid} only: the tenants are on several GPUs" if uuid and len(self._uuids) > 1 else ""
            self._tell(msgspec.structs.replace(state, note="; ".join(filter(None, (state.note, several)))))


class Polling:
    """The sources of one device, each timed. ``live`` are those that still give something."""

    def __init__(self, sources: Sequence[Source], uuid: str, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.live: list[Source] = list(sources)
        self._uuid = uuid
        self._clock = clock
        self._took_ns: dict[str, list[int]] = {source.name: [0, 0, 0] for source in sources}  # polls, sum, longest

    def open(self) -> list[SourceState]:
        """Opens all; their states, the missing ones included."""
        states = []
        for source in tuple(self.live):
            try:
                states.append(source.open(self._uuid))
            except Exception as error:  # a run must not end because a library of the driver's is odd
                self.live.remove(source)
                states.append(SourceState(source=source.name, missing=_why(error)))
        return states

    def poll(self) -> tuple[list[SourceState], list[Sample]]:
        """One reading of each; states are those of sources that failed just now."""
        states: list[SourceState] = []
        samples: list[Sample] = []
        for source in tuple(self.live):
            begin_ns = self._clock()
            try:
                samples += source.sample()
            except Exception as error:
                self.live.remove(source)
                states.append(self._timed(source, f"stopped during the run: {_why(error)}"))
                source.close()
            took_ns = self._clock() - begin_ns
            took = self._took_ns[source.name]
            took[:] = took[0] + 1, took[1] + took_ns, max(took[2], took_ns)
        return states, samples

    def close(self) -> list[SourceState]:
        """Closes what is live; its final states."""
        states = [self._timed(source) for source in self.live]
        for source in self.live:
            source.close()
        self.live.clear()
        return states

    def _timed(self, source: Source, missing: str = "") -> SourceState:
        state = source.state()
        polls, total_ns, longest_ns = self._took_ns[source.name]
        return msgspec.structs.replace(
            state,
            missing=missing or state.missing,
            polls=polls,
            poll_mean_us=round(total_ns / polls / NS_PER_US, 1) if polls else 0.0,
            poll_max_us=round(longest_ns / NS_PER_US, 1),
        )


def _why(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, SourceMissingError) and text else f"{type(error).__name__}: {text}"[:300]
