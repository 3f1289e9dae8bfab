"""Scraping a dcgm-exporter, over a real socket; its answers are in tests/data/dcgm."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pynvml
import pytest
from tests.helpers_telemetry import MS, OTHER_UUID, UUID, Clock, Exporter, S, exporter, exporter_text, recorded

from kts.errors import UsageError
from kts.model.telemetry import Sample
from kts.telemetry.dcgm import DcgmSource, device_values
from kts.telemetry.dcgm_values import Target, gpus, told, words
from kts.telemetry.outages import LONGEST_PAUSE_NS
from kts.telemetry.source import SourceMissingError

MIG_UUID = "MIG-11111111-2222-3333-4444-555555555555"
PODS = {"kts-r1-fft-abcde": "fft", "kts-r1-gemm-fghij": "gemm"}


@pytest.fixture
def served() -> Iterator[Exporter]:
    with exporter() as found:
        yield found
    for source in Watch.open_sources:
        source.close()
    Watch.open_sources.clear()


class Watch:
    """A source, and the clock that it goes by. Closed with the test."""

    open_sources: ClassVar[list[DcgmSource]] = []

    def __init__(self, served: Exporter, **given: Any) -> None:
        self.clock, self.served = Clock(), served
        self.source = DcgmSource(served.url, clock=self.clock, **given)
        self.open_sources.append(self.source)

    def after(self, ns: int, text: str | None = None) -> list[Sample]:
        """What a scrape brings then, of this answer."""
        self.clock.after(ns)
        self.served.text = self.served.text if text is None else text
        return self.source.sample()

    def spans(self, ns: int, text: str | None = None, metric: str = "sm_active_ratio") -> list[tuple[int, float]]:
        """(span, value) of that metric's samples."""
        return [(s.span_ns, s.value) for s in self.after(ns, text) if s.metric == metric]


def test_the_tenants_gpu_alone_is_read_in_our_units() -> None:
    """Else another GPU's, a MIG instance's, a blank or a pod's copy would be taken for it."""
    assert device_values(exporter_text(), UUID) == {
        "sm_clock_mhz": 1980.0,
        "gpu_busy_ratio": 0.97,
        "power_w": 403.118,
        "graphics_active_ratio": 0.971234,
        "sm_active_ratio": 0.6,
        "dram_active_ratio": 0.402,
    }


def test_only_news_is_a_sample_and_the_interval_is_the_exporters_own(served: Exporter) -> None:
    """Else an exporter that collects every 30 s would look as if it had been read every 100 ms."""
    served.text = exporter_text(sm=0.5)
    watch = Watch(served)
    watch.source.open(UUID)
    found = []
    for tick in range(1, 101):
        found += watch.spans(100 * MS, exporter_text(sm=0.5 + tick // 30 / 100))  # changes at 3, 6 and 9 s
    assert served.asked == 101
    assert found == [(3 * S, 0.52), (3 * S, 0.53)]
    assert "every 3 s" in watch.source.state().note


def test_a_field_that_changes_more_often_makes_no_news_of_the_others(served: Exporter) -> None:
    """Else a mean over the interval of its own group of fields would be laid into each change of the power."""
    watch = Watch(served)
    watch.source.open(UUID)
    assert watch.spans(S, exporter_text(util=1)) == []
    assert watch.spans(S, exporter_text(util=2, sm=0.2)) == []
    assert watch.spans(S, exporter_text(util=3, sm=0.2)) == []
    assert watch.spans(S, exporter_text(util=4, sm=0.3)) == [(2 * S, 0.3)]


def test_what_was_collected_again_and_was_the_same_is_not_in_the_next_mean(served: Exporter) -> None:
    """Else a burst after a minute of nothing would be laid over that minute."""
    watch = Watch(served)
    watch.source.open(UUID)
    for k in range(4):
        watch.after(S, exporter_text(sm=k / 10))
    for _ in range(60):
        assert watch.spans(S) == []
    assert watch.spans(S, exporter_text(sm=0.9)) == [(S, 0.9)]


def test_momentary_fields_are_points_of_the_scrape_that_brought_them(served: Exporter) -> None:
    """Else a clock read once would be taken for the mean over half a minute, or for one before it was read."""
    watch = Watch(served)
    watch.source.open(UUID)
    found = watch.after(S, exporter_text(util=10))
    assert {s.metric for s in found} == {"sm_clock_mhz", "gpu_busy_ratio", "power_w"}
    assert {(s.t_ns, s.span_ns) for s in found} == {(watch.clock.ns, 0)}


def test_an_exporter_that_never_changes_gives_nothing_and_says_so(served: Exporter) -> None:
    """Else one old value would stand for the whole run."""
    watch = Watch(served)
    watch.source.open(UUID)
    for _ in range(20):
        assert watch.after(100 * MS) == []
    assert "less than twice" in watch.source.state().note


def test_an_exporter_without_profiling_fields_is_named(served: Exporter) -> None:
    """Else it would not be clear why there is no SM activity although DCGM was asked."""
    served.text = "".join(f"{line}\n" for line in exporter_text().splitlines() if "_PROF_" not in line)
    state = Watch(served).source.open(UUID)
    assert "no PROF fields" in state.note
    assert "sm_active_ratio" not in state.metrics


def test_a_restart_is_a_gap_that_no_mean_reaches_over(served: Exporter) -> None:
    """Else one restart would end the telemetry, or a mean be laid over a time in which nothing was collected."""
    watch = Watch(served)
    watch.source.open(UUID)
    watch.after(S, exporter_text(sm=0.1))
    assert watch.spans(S, exporter_text(sm=0.2)) == [(S, 0.2)]
    last_ns = watch.clock.ns
    served.stop()
    for _ in range(600):
        assert watch.after(100 * MS) == []
    served.start()
    asked = served.asked
    for _ in range(LONGEST_PAUSE_NS // (100 * MS)):
        assert watch.after(100 * MS, exporter_text(sm=0.3)) == []
    assert served.asked > asked
    (gap,) = watch.source.state().gaps
    assert gap.begin_ns == last_ns
    assert 60 * S <= gap.end_ns - gap.begin_ns <= 60 * S + LONGEST_PAUSE_NS
    assert "refused" in gap.why
    assert watch.spans(S, exporter_text(sm=0.4)) == []
    assert watch.spans(S, exporter_text(sm=0.5)) == [(S, 0.5)]
    assert not watch.source.state().missing
    assert "no answer for 6" in watch.source.state().note


def test_one_that_is_away_is_asked_ever_less_often(served: Exporter) -> None:
    """Else a scrape that cannot work would be tried ten times a second for the whole run."""
    watch = Watch(served)
    watch.source.open(UUID)
    served.status = 503
    for _ in range(1200):
        watch.after(100 * MS)
    assert served.asked < 40
    assert "503" in watch.source.state().gaps[0].why


def test_many_gaps_are_counted_and_the_first_kept(served: Exporter) -> None:
    """Else an exporter that fails every other time would make run.json grow with the run."""
    watch = Watch(served)
    watch.source.open(UUID)
    for k in range(150):
        served.status = 500 if k % 2 else 200
        watch.after(S)
    state = watch.source.state()
    assert len(state.gaps) <= 51
    assert "in 75 gaps" in state.note


def test_one_that_is_not_there_yet_is_read_once_it_is(served: Exporter) -> None:
    """Else a run that starts before the node's exporter would have nothing of it."""
    served.stop()
    watch = Watch(served)
    state = watch.source.open(UUID)
    assert state.missing.startswith(f"no metrics from {served.url}: ")
    watch.after(10 * S)
    served.start()
    found = [s for k in range(3) for s in watch.after(10 * S, exporter_text(sm=k / 10))]
    assert {s.value for s in found if s.metric == "sm_active_ratio"} == {0.2}
    state = watch.source.state()
    assert not state.missing
    assert "sm_active_ratio" in state.metrics
    assert state.gaps[0].end_ns - state.gaps[0].begin_ns == 20 * S


def test_another_way_to_the_exporter_is_taken_when_one_ends(served: Exporter) -> None:
    """Else the pod that takes an exporter's place, at another address, would never be asked."""
    with exporter() as later, exporter() as elsewhere:
        elsewhere.text = exporter_text().replace(UUID, OTHER_UUID)
        watch = Watch(served)
        watch.source = DcgmSource(f"{served.url} {elsewhere.url} {later.url}", clock=watch.clock)
        watch.open_sources.append(watch.source)
        assert not watch.source.open(UUID).missing
        served.stop()
        found = []
        for k in range(8):
            later.text = exporter_text(sm=k / 10)
            found += watch.spans(S)
        assert found[-2:] == [(S, 0.6), (S, 0.7)]
        assert served.url in watch.source.url


def test_one_that_never_came_is_missing(served: Exporter) -> None:
    """Else a wrong address would look like a GPU without DCGM."""
    served.stop()
    watch = Watch(served)
    watch.source.open(UUID)
    watch.after(10 * S)
    assert "refused" in watch.source.state().missing


@pytest.mark.parametrize(
    "text", ["", "# EOF\n", exporter_text().replace(UUID, OTHER_UUID)], ids=["empty", "eof", "other"]
)
def test_an_answer_without_the_gpu_is_a_gap_like_no_answer(served: Exporter, text: str) -> None:
    """Else a mean would reach over a time in which the GPU was being reset."""
    watch = Watch(served)
    watch.source.open(UUID)
    watch.after(S, exporter_text(sm=0.1))
    assert watch.after(S, text) == []
    assert watch.spans(S, exporter_text(sm=0.2)) == []
    (gap,) = watch.source.state().gaps
    assert f"tells nothing of {UUID}" in gap.why


def test_a_mean_that_is_blank_for_a_while_breaks_the_span(served: Exporter) -> None:
    """Else the time in which DCGM had no counters would be filled with what came after it."""
    without = "".join(f"{line}\n" for line in exporter_text().splitlines() if "_PROF_" not in line)
    watch = Watch(served)
    watch.source.open(UUID)
    watch.after(S, exporter_text(sm=0.1))
    watch.after(30 * S, without)
    assert watch.spans(S, exporter_text(sm=0.2)) == []
    assert watch.spans(S, exporter_text(sm=0.3)) == []
    assert watch.spans(S, exporter_text(sm=0.4)) == [(S, 0.4)]


# What a line tells, and of whom


@pytest.mark.parametrize("line", recorded("blanks.prom").splitlines(), ids=lambda line: line.rsplit("}")[-1].strip())
def test_blanks_of_every_width_and_impossible_values_are_left_out(line: str) -> None:
    """Else "not supported" would enter a mean as 140737488355328."""
    assert device_values(line + "\n", UUID) == {}


def test_impossible_values_are_counted_once_each_and_blanks_are_not(served: Exporter) -> None:
    """Else nobody would learn that the driver tells nonsense, or learn it ten times a second."""
    nonsense = f'DCGM_FI_DEV_MEM_COPY_UTIL{{UUID="{UUID}"}} %s\n'
    watch = Watch(served)
    watch.source.open(UUID)
    for value in ("2619", "2619", "9223372036854775794", "-1"):
        watch.after(S, exporter_text() + nonsense % value)
    assert "2 impossible values left out (DCGM_FI_DEV_MEM_COPY_UTIL" in watch.source.state().note


@pytest.mark.parametrize(
    ("value", "ratio"), [("1.0000001", 1.0), ("1.004", 1.0), ("1", 1.0), ("0", 0.0), ("-0.0", 0.0)]
)
def test_a_ratio_that_rounding_put_above_one_is_one(value: str, ratio: float) -> None:
    """Else a GPU that is all busy would have holes."""
    assert device_values(f'DCGM_FI_PROF_SM_ACTIVE{{UUID="{UUID}"}} {value}\n', UUID) == {"sm_active_ratio": ratio}


def test_copies_for_pods_are_the_devices_and_no_pods() -> None:
    """Else a GPU's value would be read as each pod's own."""
    found = told(recorded("4.4-virtual-gpus.prom"), Target(UUID))
    assert found.device["sm_active_ratio"] == 0.502113
    assert found.device["gpu_busy_ratio"] == 0.97
    assert found.pods == {}


def test_a_pods_own_value_stands_beside_the_devices() -> None:
    """Else what one pod's processes did would be taken for the device's, or be lost."""
    found = told(recorded("4.6-per-pod.prom"), Target(UUID))
    assert found.device["gpu_busy_ratio"] == 0.97
    assert found.device["sm_active_ratio"] == 0.502113
    assert found.pods == {"kts-r1-fft-abcde": 0.61, "kts-r1-gemm-fghij": 0.38, "stranger-7d9f": 0.0}


def test_pods_that_differ_without_a_line_of_the_device_are_nobodys() -> None:
    """Else one pod's share would be taken for the GPU's."""
    lines = [line for line in recorded("4.6-per-pod.prom").splitlines() if "pod=" in line]
    found = told("\n".join(lines) + "\n", Target(UUID))
    assert "gpu_busy_ratio" not in found.device
    assert found.pods == {}


def test_a_tenants_own_share_is_the_tenants_and_a_strangers_is_nobodys(served: Exporter) -> None:
    """Else another team's pod would be in the report, or a 0 of processes that the exporter cannot see."""
    served.text = recorded("4.6-per-pod.prom")
    watch = Watch(served, tenants=lambda: PODS)
    watch.source.open(UUID)
    found = watch.after(S, served.text.replace("} 61", "} 75").replace("} 38", "} 0"))
    of_tenants = [(s.subject, s.metric, s.value, s.span_ns) for s in found if s.scope == "tenant"]
    assert of_tenants == [("fft", "process_sm_ratio", 0.75, 0), ("gemm", "process_sm_ratio", 0.0, 0)]
    assert {s.subject for s in found if s.scope == "device"} <= {UUID}
    assert "process_sm_ratio" in watch.source.state().metrics


def test_a_pod_that_was_never_seen_to_compute_has_no_share(served: Exporter) -> None:
    """Else an exporter without the host's process numbers would call every tenant idle."""
    served.text = recorded("4.6-per-pod.prom").replace("} 61", "} 0")
    watch = Watch(served, tenants=lambda: PODS)
    watch.source.open(UUID)
    found = watch.after(S, served.text.replace("} 38", "} 39"))
    assert [s.subject for s in found if s.scope == "tenant"] == ["gemm"]


def test_the_old_namespace_is_read() -> None:
    """Else `--use-old-namespace` would look like an exporter without fields."""
    assert device_values(recorded("2-old-namespace.prom"), UUID) == {
        "gpu_busy_ratio": 0.42,
        "graphics_active_ratio": 0.41,
        "sm_clock_mhz": 1410.0,
    }


def test_openmetrics_is_read() -> None:
    """Else its endings, braces in labels or an exemplar's value would be taken for the value."""
    found = told(recorded("openmetrics.txt"), Target(UUID))
    assert found.device == {"sm_active_ratio": 0.25, "gpu_busy_ratio": 0.97}
    assert found.stamps_ns["sm_active_ratio"] == 1_700_000_000_500_000_000


def test_prometheus_federated_is_read() -> None:
    """Else the exporter's own pod, which is on every line there, would be taken for a tenant's."""
    found = told(recorded("federate.prom"), Target(UUID))
    assert found.device == {"gpu_busy_ratio": 0.97, "sm_active_ratio": 0.5}
    assert found.pods == {"kts-r1-fft-abcde": 0.61, "kts-r1-gemm-fghij": 0.38}
    assert set(found.stamps_ns.values()) == {1_700_000_000_000_000_000}


def test_a_lines_own_time_is_taken_where_it_can_be_true(served: Exporter) -> None:
    """Else values that a relay holds back would be laid into the block after theirs."""
    began_ms = 1_700_000_000_000
    line = f'DCGM_FI_PROF_SM_ACTIVE{{UUID="{UUID}"}} 0.5 %d\n'
    served.text = line % (began_ms - 30_000)
    watch = Watch(served)
    began_ns = watch.clock.ns
    watch.source = DcgmSource(served.url, clock=watch.clock, realtime=lambda: began_ms * MS + watch.clock.ns - began_ns)
    watch.open_sources.append(watch.source)
    watch.source.open(UUID)
    assert watch.after(S, line % (began_ms - 20_000)) == []
    (sample,) = watch.after(S, line % (began_ms - 15_000))  # the same value, collected again
    assert (sample.t_ns, sample.span_ns) == (began_ns - 15 * S, 5 * S)
    assert watch.after(S, line % (began_ms - 15_000)) == []
    assert watch.after(S, line % (began_ms + 3_600_000)) == []  # of later today: not a time that can be, and no news


# MIG


class Mig:
    """NVML of a GPU cut into instances."""

    NVMLError = pynvml.NVMLError

    def __init__(self, instance: int = 3) -> None:
        self.opened = 0
        self.instance = instance

    def nvmlInit(self) -> None:  # noqa: N802
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.opened -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any:  # noqa: N802
        if uuid != MIG_UUID:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return SimpleNamespace(uuid=uuid)

    def nvmlDeviceGetGpuInstanceId(self, handle: Any) -> int:  # noqa: ARG002, N802
        return self.instance

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: Any) -> Any:  # noqa: ARG002, N802
        return SimpleNamespace(uuid=UUID)

    def nvmlDeviceGetUUID(self, handle: Any) -> str:  # noqa: N802
        return str(handle.uuid)


def test_a_tenant_on_a_mig_instance_gets_that_instances_values(served: Exporter) -> None:
    """Else MIG would have no activity, or a neighbouring instance's."""
    served.text = recorded("3.3-mig.prom")
    nvml = Mig()
    watch = Watch(served, nvml=nvml)
    state = watch.source.open(MIG_UUID)
    assert "of MIG instance 3 of GPU-" in state.note
    assert "power_w, sm_clock_mhz: of the whole GPU" in state.note
    assert nvml.opened == 0
    watch.after(S, served.text.replace("0.640000", "0.650000"))
    (sample,) = [s for s in watch.after(S, served.text.replace("0.650000", "0.66")) if s.metric == "sm_active_ratio"]
    assert (sample.subject, sample.scope, sample.value) == (MIG_UUID, "device", 0.66)


def test_the_older_drivers_name_says_the_instance_itself(served: Exporter) -> None:
    """Else NVML would be needed for what is in the name."""
    served.text = recorded("3.3-mig.prom")
    state = Watch(served, nvml=Mig()).source.open(f"MIG-{UUID}/7/0")
    assert "of MIG instance 7" in state.note


def test_an_only_instance_is_the_tenants_without_nvml(served: Exporter) -> None:
    """Else a machine whose NVML tells nothing would have nothing, though there is no doubt."""
    served.text = "".join(f"{line}\n" for line in recorded("3.3-mig.prom").splitlines() if 'GPU_I_ID="7"' in line)
    assert "of MIG instance 7" in Watch(served, nvml=Mig()).source.open("MIG-of-another-driver").note


@pytest.mark.parametrize("uuid", [UUID, "MIG-unknown", f"MIG-{UUID}/5/0"])
def test_an_exporter_that_tells_of_instances_only_is_said_so(served: Exporter, uuid: str) -> None:
    """Else "tells nothing" would send the reader to look for a wrong address."""
    served.text = recorded("3.3-mig.prom")
    with pytest.raises(SourceMissingError, match=r"MIG instance 3 3g\.71gb, MIG instance 7 1g\.18gb only"):
        Watch(served, nvml=Mig()).source.open(uuid)


def test_an_exporter_without_fields_of_ours_is_said_so(served: Exporter) -> None:
    """Else the user would look for the GPU instead of the counters."""
    served.text = f'DCGM_FI_DEV_GPU_TEMP{{UUID="{UUID}"}} 40\n'
    with pytest.raises(SourceMissingError, match="none of the fields"):
        Watch(served).source.open(UUID)
    assert words(gpus(served.text)) == UUID
    assert words({}) == "no GPU"


@pytest.mark.parametrize("url", ["", "http://", "ftp://host/metrics", "http://host:port/metrics", "file:///etc/passwd"])
def test_what_is_no_url_is_a_usage_error(url: str) -> None:
    """Else it would be found out only after the run."""
    with pytest.raises(UsageError, match="--dcgm"):
        DcgmSource(url)


@pytest.mark.parametrize("text", ["", "{}", "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_GPU_UTIL{} x\n\0", "}" * 10_000])
def test_text_that_is_no_metrics_is_passed_over(text: str) -> None:
    """Else a proxy's error page would end the telemetry with a traceback."""
    assert device_values(text, UUID) == {}
