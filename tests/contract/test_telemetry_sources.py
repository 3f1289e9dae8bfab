"""What every telemetry source must do, whatever it asks."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.helpers_telemetry import MS, OTHER_UUID, UUID, Clock, FakeMachine, FakeNvml, exporter, exporter_text, proc_of

from kts.telemetry.cores import CoresSource
from kts.telemetry.dcgm import DcgmSource
from kts.telemetry.gpm import GpmSource
from kts.telemetry.host import HostSource
from kts.telemetry.nvml import NvmlSource
from kts.telemetry.processes import ProcessSource
from kts.telemetry.source import Source, SourceMissingError
from kts.telemetry.xid import XidSource
from kts.wire.messages import Heartbeat, HostCounters

STEP_NS = 200 * MS


@dataclass(frozen=True)
class Subject:
    """A source, what lets something happen in ``STEP_NS`` of time, and what it says of another device."""

    source: Source
    happen: Callable[[], None]
    held: Callable[[], int]
    knows_devices: bool = True


def _nvml(_: ExitStack) -> Subject:
    clock = Clock()
    nvml = FakeNvml(clock)
    return Subject(NvmlSource(nvml, clock=clock), lambda: _ignore(clock.after(STEP_NS)), lambda: nvml.opened)


def _gpm(_: ExitStack) -> Subject:
    clock = Clock()
    nvml = FakeNvml(clock)
    source = GpmSource(nvml, clock=clock)
    return Subject(source, lambda: _ignore(clock.after(STEP_NS)), lambda: nvml.opened + nvml.samples_held)


def _processes(stack: ExitStack) -> Subject:
    clock = Clock()
    nvml = FakeNvml(clock)
    nvml.listed = [11, 12, 13]

    def happen() -> None:
        nvml.processes = [(pid, clock.after(STEP_NS // 2) // 1000, 40, 10) for pid in (11, 12)]

    proc = proc_of(Path(stack.enter_context(TemporaryDirectory())), (11, 1, "fft"), (12, 1, "gemm"), (13, 1, "other"))
    source = ProcessSource(lambda: {11: "fft", 12: "gemm"}, nvml, clock=clock, realtime=clock, proc=proc)
    return Subject(source, happen, lambda: nvml.opened)


def _xid(_: ExitStack) -> Subject:
    clock = Clock()
    nvml = FakeNvml(clock)

    def happen() -> None:
        clock.after(STEP_NS)
        nvml.xids.append(31)

    return Subject(XidSource(nvml, clock=clock), happen, lambda: nvml.opened + nvml.samples_held)


def _dcgm(stack: ExitStack) -> Subject:
    clock = Clock()
    served = stack.enter_context(exporter())
    values = iter(range(1, 1000))

    def happen() -> None:
        clock.after(STEP_NS)
        served.text = exporter_text(sm=next(values) / 1000)

    return Subject(DcgmSource(served.url, clock=clock), happen, lambda: 0)


def _dcgm_through_a_relay(stack: ExitStack) -> Subject:
    """Compressed, and each line with the time of its value: that, not the scrape's, is the sample's."""
    clock = Clock()
    served = stack.enter_context(exporter())
    served.encode, served.headers = gzip.compress, {"Content-Encoding": "gzip"}
    values = iter(range(1, 1000))

    def happen() -> None:
        stamp_ms = clock.after(STEP_NS) // MS
        told = exporter_text(sm=next(values) // 2 / 1000)  # the same value twice is news, too
        served.text = "".join(
            f"{line}\n" if line.startswith("#") else f"{line} {stamp_ms}\n" for line in told.splitlines()
        )
        clock.after(MS)

    return Subject(DcgmSource(served.url, clock=clock, realtime=clock), happen, lambda: 0)


def _host(_: ExitStack) -> Subject:
    clock = Clock()
    source = HostSource()

    def happen() -> None:
        used_ns = clock.after(STEP_NS) // 4
        for tenant in ("fft", "gemm"):
            counters = {"running_threads": used_ns, "read_bytes_per_s": 3 * used_ns}
            host = HostCounters(monotonic_ns=clock.ns, counters=counters, moments={"blocked_threads": 1.0})
            source.heartbeat(tenant, Heartbeat(monotonic_ns=clock.ns, iterations=1, host=host))

    return Subject(source, happen, lambda: 0, knows_devices=False)


def _cores(stack: ExitStack) -> Subject:
    clock = Clock()
    machine = FakeMachine(Path(stack.enter_context(TemporaryDirectory())))
    source = CoresSource(proc=machine.proc, system=machine.system, clock=clock)
    for tenant, core in (("fft", 0), ("gemm", 1)):
        source.worker(machine.worker(tenant, (core,)))

    def happen() -> None:
        clock.after(STEP_NS)
        machine.idle(STEP_NS // 4)

    return Subject(source, happen, lambda: 0, knows_devices=False)


def _ignore(_: object) -> None:
    pass


@pytest.fixture(
    params=[_nvml, _gpm, _processes, _xid, _dcgm, _dcgm_through_a_relay, _host, _cores],
    ids=lambda make: make.__name__.lstrip("_"),
)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """Each implementation, not yet opened."""
    with ExitStack() as stack:
        made: Subject = request.param(stack)
        yield made
        made.source.close()


def test_open_names_the_source_and_what_it_gives(subject: Subject) -> None:
    """Else run.json would not say which sources a run had."""
    state = subject.source.open(UUID)
    assert state.source == subject.source.name
    assert state.metrics
    assert not state.missing


def test_samples_are_of_what_was_promised_and_of_whom_they_say(subject: Subject) -> None:
    """Else a device's value could be read as a tenant's, or a metric without its unit."""
    state = subject.source.open(UUID)
    found = []
    for _ in range(4):
        subject.happen()
        found += subject.source.sample()
    assert {sample.metric for sample in found} <= set(state.metrics)
    assert found
    for sample in found:
        assert sample.source == subject.source.name
        assert sample.metric.rsplit("_", 1)[1] in {"ratio", "mhz", "w", "threads", "cores", "s", "code"}
        assert sample.subject == UUID if sample.scope == "device" else sample.subject in {"fft", "gemm"}
        assert sample.value >= 0
        assert sample.metric.endswith("_ratio") <= (sample.value <= 1)


def test_spans_of_one_series_follow_each_other_without_overlap(subject: Subject) -> None:
    """Else a stretch of time would be counted twice in every mean."""
    subject.source.open(UUID)
    ends: dict[tuple[str, str], int] = {}
    for _ in range(5):
        subject.happen()
        for sample in subject.source.sample():
            key = (sample.metric, sample.subject)
            assert sample.t_ns - sample.span_ns >= ends.get(key, 0)
            ends[key] = sample.t_ns
    assert ends


def test_nothing_new_gives_no_sample_of_a_stretch_of_time(subject: Subject) -> None:
    """Else an old value would be posed as a new measurement."""
    subject.source.open(UUID)
    for _ in range(3):
        subject.happen()
        subject.source.sample()
    assert not [sample for sample in subject.source.sample() if sample.span_ns]


def test_a_device_that_is_not_there_is_named_and_nothing_stays_open(subject: Subject) -> None:
    """Else samples of another GPU would be taken for those of the tenants'."""
    if not subject.knows_devices:
        pytest.skip("does not ask a device")
    with pytest.raises(SourceMissingError):
        subject.source.open("GPU-of-somebody-else" if subject.source.name != "dcgm" else OTHER_UUID[:-1])
    assert subject.held() == 0


def test_close_lets_go_of_everything_and_may_be_repeated(subject: Subject) -> None:
    """Else a long-lived process would hold NVML, sockets and buffers."""
    subject.source.open(UUID)
    subject.happen()
    subject.source.sample()
    subject.source.close()
    subject.source.close()
    assert subject.held() == 0


def test_what_became_of_it_can_be_told_to_the_end(subject: Subject) -> None:
    """Else the last words of a source would be lost."""
    subject.source.open(UUID)
    for _ in range(3):
        subject.happen()
        subject.source.sample()
    state = subject.source.state()
    assert state.source == subject.source.name
    assert state.metrics
    assert not state.missing
