"""The sampler: one thread, whatever its sources do, and the scheduler's figures from heartbeats."""

from __future__ import annotations

import os
import socket
import threading

import pytest
from tests.helpers_conduct import DEVICE
from tests.helpers_telemetry import MS, UUID, Clock, FakeNvml, S, sample
from tests.helpers_wait import until

from kts.model.run import DeviceInfo, WorkerInfo
from kts.model.telemetry import Sample, SourceState
from kts.telemetry import nvml as nvml_module
from kts.telemetry.choice import make_sampler, probe
from kts.telemetry.sampler import Polling, Sampler, Tenants
from kts.telemetry.source import SEVERAL, SourceMissingError

GPU = DeviceInfo(kind="cuda", uuid=UUID, name="GPU", label="GPU", library="torch")


class Scripted:
    """A source that gives a sample a time until ``fails_at``."""

    remote = False

    def __init__(
        self, name: str, *, missing: str = "", fails_at: int | None = None, error: Exception | None = None
    ) -> None:
        self.name = name
        self.polled = 0
        self.closed = 0
        self.threads: set[str] = set()
        self._missing, self._fails_at = missing, fails_at
        self._error = error or SourceMissingError("gone")

    def open(self, uuid: str) -> SourceState:
        assert uuid == UUID
        if self._missing:
            raise SourceMissingError(self._missing)
        return self.state()

    def sample(self) -> list[Sample]:
        self.threads.add(threading.current_thread().name)
        self.polled += 1
        if self.polled == self._fails_at:
            raise self._error
        return [sample(self.polled * S, source=self.name)]

    def state(self) -> SourceState:
        return SourceState(source=self.name, metrics=("gpu_busy_ratio",))

    def close(self) -> None:
        self.closed += 1


def worker(tenant: str, device: DeviceInfo = GPU, pid: int | None = None, hostname: str = "") -> WorkerInfo:
    """A tenant of this host."""
    return WorkerInfo(tenant=tenant, pid=pid or os.getpid(), hostname=hostname or socket.gethostname(), device=device)


def run(*sources: Scripted, until_polls: int = 5) -> tuple[dict[str, SourceState], list[Sample]]:
    """A short run of a sampler with these sources; states by source (last ones) and samples."""
    subject = Sampler(lambda _: sources, period_ns=MS)
    states: dict[str, SourceState] = {}
    samples: list[Sample] = []

    def drain() -> None:
        new_states, new_samples = subject.drain()
        states.update({state.source: state for state in new_states})
        samples.extend(new_samples)

    def enough() -> bool:
        drain()
        return any(source.polled >= until_polls for source in sources)

    subject.worker(worker("fft"))
    subject.worker(worker("fft"))
    until(enough, "the sources are polled")
    subject.close()
    subject.close()
    drain()
    return states, samples


def test_a_missing_source_is_named_and_the_others_are_sampled() -> None:
    """Else one source that is not there would cost all of them."""
    good, bad = Scripted("good"), Scripted("bad", missing="not built in")
    states, samples = run(good, bad)
    assert states["bad"].missing == "not built in"
    assert bad.polled == 0
    assert {s.source for s in samples} == {"good"}
    assert states["good"].polls == good.polled == len(samples)
    assert 0 < states["good"].poll_mean_us <= states["good"].poll_max_us


@pytest.mark.parametrize("error", [SourceMissingError("gone"), RuntimeError("a bug"), OSError(5, "I/O")])
def test_a_source_that_fails_in_the_run_is_named_and_dropped(error: Exception) -> None:
    """Else it would end the run, or go on failing in silence."""
    good, bad = Scripted("good"), Scripted("bad", fails_at=3, error=error)
    states, samples = run(good, bad, until_polls=8)
    assert states["bad"].missing.startswith("stopped during the run")
    assert bad.polled == 3
    assert bad.closed == good.closed == 1
    assert sum(s.source == "bad" for s in samples) == 2
    assert not states["good"].missing


def test_sources_are_polled_by_one_thread_that_is_not_the_drivers() -> None:
    """Else a slow exporter would hold up the conductor, and NVML be used by two threads at once."""
    a, b = Scripted("a"), Scripted("b")
    run(a, b)
    assert a.threads == b.threads == {"telemetry"}
    assert not [t for t in threading.enumerate() if t.name == "telemetry"]


class Hanging(Scripted):
    """A source over a network whose answers do not come."""

    remote = True

    def __init__(self) -> None:
        super().__init__("far")
        self.over = threading.Event()

    def sample(self) -> list[Sample]:
        self.polled += 1
        self.over.wait()
        return []


def test_a_source_far_away_that_hangs_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a slow exporter would thin out NVML's samples, or its end be waited for without end."""
    monkeypatch.setattr("kts.telemetry.sampler.JOIN_S", 0.05)
    near, far = Scripted("near"), Hanging()
    states, samples = run(near, far, until_polls=20)
    assert near.polled >= 20
    assert near.threads == {"telemetry"}
    assert far.polled == 1
    assert {s.source for s in samples} == {"near"}
    assert "did not answer any more" in states["far"].missing
    far.over.set()


def test_on_a_cpu_no_source_of_a_gpu_is_opened_and_all_are_named() -> None:
    """Else a report would pose as if a GPU had been looked at, or not say why nothing is there."""
    source = Scripted("nvml")
    subject = Sampler(lambda _: [source], period_ns=MS)
    subject.worker(worker("fft", DEVICE))
    subject.close()
    states = {state.source: state for state in subject.drain()[0]}
    assert states["nvml"].missing == f"the tenants are on {DEVICE.label}"
    assert states["host"].missing == "no tenant told it"
    assert source.polled == 0


def test_only_processes_of_this_namespace_are_handed_to_the_sources() -> None:
    """Else a pod's process number would be looked up among the conductor's."""
    asked: list[Tenants] = []

    def make(tenants: Tenants) -> list[Scripted]:
        asked.append(tenants)
        return []

    subject = Sampler(make, period_ns=MS)
    subject.worker(worker("here"))
    subject.worker(worker("pod", hostname="kts-x-fft-abcde"))
    subject.worker(worker("dead", pid=2**22 + 1))
    until(lambda: asked, "sources are made")
    assert asked[0].by_pid() == {os.getpid(): "here"}
    assert asked[0].by_host() == {"kts-x-fft-abcde": "pod"}
    subject.close()


def test_a_process_of_several_tenants_is_nones() -> None:
    """Else what all of them used would be told of the last one."""
    asked: list[Tenants] = []

    def make(tenants: Tenants) -> list[Scripted]:
        asked.append(tenants)
        return []

    subject = Sampler(make, period_ns=MS)
    subject.worker(worker("one"))
    subject.worker(worker("one"))
    until(lambda: asked, "sources are made")
    assert asked[0].by_pid() == {os.getpid(): "one"}
    subject.worker(worker("other"))
    subject.worker(worker("one"))
    assert asked[0].by_pid() == {os.getpid(): SEVERAL}
    subject.close()


def test_an_exporter_that_is_no_url_is_told_before_the_run() -> None:
    """Else the user would learn of the typing mistake from the report."""
    from kts.errors import UsageError

    with pytest.raises(UsageError):
        make_sampler(dcgm="ftp://x")
    make_sampler(dcgm="node:9400").close()


def test_the_same_polling_serves_the_doctor() -> None:
    """Else `kts doctor` could find sources that a run does not."""
    good, bad = Scripted("good"), Scripted("bad", missing="no")
    polling = Polling([good, bad], UUID)
    assert [state.missing for state in polling.open()] == ["", "no"]
    states, samples = polling.poll()
    assert (states, len(samples)) == ([], 1)
    assert [state.polls for state in polling.close()] == [1]


def test_the_doctor_is_told_the_values_of_what_is_there_and_why_the_rest_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else `kts doctor` would promise sources that a run does not have."""
    nvml = FakeNvml(Clock())
    nvml.gpm_supported = 0
    monkeypatch.setattr(nvml_module, "load_nvml", lambda: nvml)
    readings = {reading.state.source: reading for reading in probe(UUID, sleep=lambda _: None)}
    assert readings["nvml"].values["sm_clock_mhz"] == 1980.0
    assert "Hopper" in readings["gpm"].state.missing
    assert not readings["nvml-process"].state.missing
    assert "dcgm" not in readings
    assert nvml.opened == 0
