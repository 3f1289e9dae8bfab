"""NVML, GPM and utilisation per process, on an NVML that says what the test wants."""

from __future__ import annotations

from pathlib import Path

import pynvml
import pytest
from tests.helpers_telemetry import MS, UUID, Clock, FakeNvml, S, proc_of

from kts.model.telemetry import Sample
from kts.telemetry.gpm import MOST_FAILURES, GpmSource
from kts.telemetry.nvml import NvmlSource
from kts.telemetry.processes import ProcessSource
from kts.telemetry.source import SEVERAL, SourceMissingError
from kts.telemetry.xid import XidSource

NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED
REASONS = {
    "limited_power_ratio": pynvml.nvmlClocksEventReasonSwPowerCap,
    "limited_hw_ratio": pynvml.nvmlClocksEventReasonHwSlowdown,
    "limited_thermal_ratio": pynvml.nvmlClocksEventReasonSwThermalSlowdown,
    "limited_hw_thermal_ratio": pynvml.nvmlClocksEventReasonHwThermalSlowdown,
    "limited_power_brake_ratio": pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
    "limited_sync_boost_ratio": pynvml.nvmlClocksEventReasonSyncBoost,
    "limited_settings_ratio": pynvml.nvmlClocksEventReasonApplicationsClocksSetting,
}


def values(samples: list[Sample]) -> dict[str, float]:
    """Metric (and tenant) to value."""
    return {s.metric if s.scope == "device" else f"{s.subject} {s.metric}": s.value for s in samples}


def test_nvml_units_are_converted() -> None:
    """Else percents would be read as ratios, and milliwatts as watts."""
    clock = Clock()
    nvml = FakeNvml(clock)
    source = NvmlSource(nvml, clock=clock)
    source.open(UUID)
    assert values(source.sample()) == {
        "gpu_busy_ratio": 0.5,
        "memory_busy_ratio": 0.2,
        "sm_clock_mhz": 1980.0,
        "memory_clock_mhz": 3201.0,
        "power_w": 400.0,
        "power_limit_w": 700.0,
        "clocks_limited_ratio": 0.0,
        **dict.fromkeys(REASONS, 0.0),
    }
    nvml.busy["reasons"] = pynvml.nvmlClocksEventReasonGpuIdle
    assert values(source.sample())["clocks_limited_ratio"] == 0.0


@pytest.mark.parametrize(("metric", "reason"), REASONS.items())
def test_each_reason_that_holds_the_clocks_down_has_its_name(metric: str, reason: int) -> None:
    """Else heat would be taken for the power limit, or clocks that somebody set for a fault."""
    nvml = FakeNvml(Clock())
    source = NvmlSource(nvml, clock=nvml.clock)
    source.open(UUID)
    nvml.busy["reasons"] = reason | pynvml.nvmlClocksEventReasonGpuIdle
    found = values(source.sample())
    assert [name for name in REASONS if found[name]] == [metric]
    assert found["clocks_limited_ratio"] == float(metric not in {"limited_sync_boost_ratio", "limited_settings_ratio"})


def test_a_reason_that_the_gpu_cannot_tell_is_no_zero() -> None:
    """Else "never too hot" would stand where nobody looked."""
    nvml = FakeNvml(Clock())
    nvml.reasons_offered = pynvml.nvmlClocksEventReasonSwPowerCap
    state = NvmlSource(nvml, clock=nvml.clock).open(UUID)
    assert set(REASONS) & set(state.metrics) == {"limited_power_ratio"}
    nvml.refused = {"nvmlDeviceGetSupportedClocksEventReasons": NOT_SUPPORTED}
    assert set(REASONS) <= set(NvmlSource(nvml, clock=nvml.clock).open(UUID).metrics)


def test_each_xid_error_is_a_sample_and_the_run_names_them() -> None:
    """Else a GPU that failed meanwhile would be a slow neighbour."""
    nvml = FakeNvml(Clock())
    source = XidSource(nvml, clock=nvml.clock)
    source.open(UUID)
    assert source.sample() == []
    assert source.state().note == ""
    nvml.xids = [31, 79, 31]
    nvml.clock.after(5)
    assert [(s.value, s.scope, s.span_ns) for s in source.sample()] == [(x, "device", 5) for x in (31.0, 79.0, 31.0)]
    assert source.state().note == "the GPU told Xid 31 (2x), 79 (1x)"
    nvml.refused = {"nvmlEventSetWait_v2": pynvml.NVML_ERROR_GPU_IS_LOST}
    with pytest.raises(SourceMissingError, match="GPU is lost"):
        source.sample()


def test_a_gpu_without_xid_events_is_named_and_nothing_stays_open() -> None:
    """Else no Xid would be told where none could be."""
    nvml = FakeNvml(Clock())
    nvml.refused = {"nvmlDeviceRegisterEvents": NOT_SUPPORTED}
    with pytest.raises(SourceMissingError, match="Not Supported"):
        XidSource(nvml, clock=nvml.clock).open(UUID)
    assert nvml.opened == nvml.samples_held == 0


def test_what_the_gpu_does_not_offer_is_named_and_the_rest_is_read() -> None:
    """Else one missing reading would cost all others."""
    nvml = FakeNvml(Clock())
    nvml.refused = {"nvmlDeviceGetUtilizationRates": NOT_SUPPORTED}
    state = NvmlSource(nvml, clock=nvml.clock).open(UUID)
    assert "gpu_busy_ratio" not in state.metrics
    assert "power_w" in state.metrics
    assert "utilisation: Not Supported" in state.note


def test_an_average_power_is_said_to_be_one() -> None:
    """Else a second's mean would be taken for the power of its moment."""
    nvml = FakeNvml(Clock())
    nvml.refused = {"instant": NOT_SUPPORTED}
    source = NvmlSource(nvml, clock=nvml.clock)
    assert "averages" in source.open(UUID).note
    assert values(source.sample())["power_w"] == 300.0


def test_nvml_without_a_driver_says_so() -> None:
    """Else the user would not know why there are no samples."""
    nvml = FakeNvml(Clock())
    nvml.refused = {"nvmlInit": pynvml.NVML_ERROR_LIBRARY_NOT_FOUND}
    for source in (NvmlSource(nvml), GpmSource(nvml), ProcessSource(dict, nvml)):
        with pytest.raises(SourceMissingError, match="NVML Shared Library Not Found"):
            source.open(UUID)


def test_a_reading_that_fails_now_and_then_costs_itself_alone_and_a_lost_gpu_all() -> None:
    """Else a GPU that fell off the bus would be polled for ever, or a hiccup would end the telemetry."""
    nvml = FakeNvml(Clock())
    source = NvmlSource(nvml, clock=nvml.clock)
    source.open(UUID)
    nvml.refused = {"nvmlDeviceGetUtilizationRates": pynvml.NVML_ERROR_TIMEOUT}
    assert "sm_clock_mhz" in values(source.sample())
    nvml.refused = dict.fromkeys(
        (
            "nvmlDeviceGetUtilizationRates",
            "nvmlDeviceGetClockInfo",
            "nvmlDeviceGetFieldValues",
            "nvmlDeviceGetEnforcedPowerLimit",
            "nvmlDeviceGetCurrentClocksEventReasons",
        ),
        pynvml.NVML_ERROR_GPU_IS_LOST,
    )
    with pytest.raises(SourceMissingError, match="GPU is lost"):
        source.sample()


def test_gpm_waits_longer_than_nvml_refreshes_and_covers_all_of_the_time() -> None:
    """Else NVML would compare a counter with itself, or stretches of time would be in no sample."""
    clock = Clock()
    nvml = FakeNvml(clock)
    source = GpmSource(nvml, clock=clock)
    source.open(UUID)
    spans = []
    for _ in range(10):
        clock.after(100 * MS)
        spans += [s.span_ns for s in source.sample() if s.metric == "sm_active_ratio"]
    assert spans == [200 * MS] * 5
    assert values([*source.sample()]) == {}
    clock.after(200 * MS)
    assert values(source.sample()) == {
        "graphics_active_ratio": 0.9,
        "sm_active_ratio": 0.6,
        "sm_occupancy_ratio": 0.3,
        "tensor_active_ratio": 0.1,
        "dram_active_ratio": 0.45,
    }


def test_gpm_metrics_that_the_gpu_refuses_are_named() -> None:
    """Else a zero that nobody measured would be reported."""
    clock = Clock()
    nvml = FakeNvml(clock)
    nvml.gpm_refused = {10}
    source = GpmSource(nvml, clock=clock)
    source.open(UUID)
    clock.after(S)
    assert "dram_active_ratio" not in values(source.sample())
    assert source.state().note == "not given by this GPU: dram_active_ratio"
    clock.after(S)
    assert "sm_active_ratio" in values(source.sample())


def test_a_gpu_without_gpm_is_named() -> None:
    """Else an A100's report would silently lack SM activity."""
    nvml = FakeNvml(Clock())
    nvml.gpm_supported = 0
    with pytest.raises(SourceMissingError, match="Hopper"):
        GpmSource(nvml, clock=nvml.clock).open(UUID)
    assert nvml.opened == nvml.samples_held == 0


def test_gpm_is_given_up_only_after_it_failed_for_a_while() -> None:
    """Else one refused reading would end it, or a dead one go on for ever."""
    clock = Clock()
    nvml = FakeNvml(clock)
    source = GpmSource(nvml, clock=clock)
    source.open(UUID)
    nvml.refused = {"nvmlGpmSampleGet": pynvml.NVML_ERROR_UNKNOWN}
    for _ in range(MOST_FAILURES - 1):
        clock.after(200 * MS)
        assert source.sample() == []
    clock.after(200 * MS)
    with pytest.raises(SourceMissingError, match="GPM stopped"):
        source.sample()


def _processes(tenants: dict[int, str], listed: list[int], proc: Path) -> tuple[Clock, FakeNvml, ProcessSource]:
    clock = Clock()
    nvml = FakeNvml(clock)
    nvml.listed = listed
    source = ProcessSource(lambda: tenants, nvml, clock=clock, realtime=clock, proc=proc)
    source.open(UUID)
    return clock, nvml, source


def test_a_process_is_a_tenant_only_where_all_that_nvml_lists_are_here(tmp_path: Path) -> None:
    """Else a stranger's process of the same number, in another namespace, would be reported as the tenant."""
    proc_of(tmp_path, (11, 1, "kts"), (12, 1, "kts"))
    clock, nvml, source = _processes({11: "fft", 12: "gemm"}, [11, 4711], tmp_path)
    for _ in range(3):
        nvml.processes = [(11, clock.after(200 * MS) // 1000, 40, 10)]
        assert source.sample() == []
    assert "NVML's list of 2 computing processes" in source.state().missing


def test_a_tenant_that_does_not_compute_costs_others_nothing(tmp_path: Path) -> None:
    """Else beside one idle tenant what the others and strangers used would be told of nobody."""
    proc_of(tmp_path, (11, 1, "kts"), (12, 1, "kts"), (30, 1, "ollama"))
    clock, nvml, source = _processes({11: "fft", 12: "idle"}, [11, 30], tmp_path)
    for _ in range(3):
        t_us = clock.after(200 * MS) // 1000
        nvml.processes = [(11, t_us, 40, 10), (30, t_us, 50, 4)]
        found = source.sample()
    told = values(found)
    assert (told["fft process_sm_ratio"], told["idle process_sm_ratio"], told["others_sm_ratio"]) == (0.4, 0.0, 0.5)


def test_tenants_in_pods_are_not_matched(tmp_path: Path) -> None:
    """Else the report would not say why it has nothing per tenant."""
    _, _, source = _processes({}, [11], tmp_path)
    assert source.sample() == []
    assert "other pid namespaces" in source.state().missing


def test_a_tenant_missing_from_a_batch_had_no_utilisation_in_it(tmp_path: Path) -> None:
    """NVML reports only processes with some utilisation: without this, an idle tenant's mean would be too high."""
    proc_of(tmp_path, (11, 1, "kts"), (12, 1, "kts"))
    clock, nvml, source = _processes({11: "fft", 12: "gemm"}, [11, 12], tmp_path)
    found: list[Sample] = []
    for _ in range(3):
        nvml.processes = [(11, clock.after(200 * MS) // 1000, 40, 10)]
        found = source.sample()
    assert values(found) == {
        "fft process_sm_ratio": 0.4,
        "fft process_memory_ratio": 0.1,
        "gemm process_sm_ratio": 0.0,
        "gemm process_memory_ratio": 0.0,
        "others_sm_ratio": 0.0,
        "others_memory_ratio": 0.0,
    }
    assert {s.span_ns for s in found} == {200 * MS}
    assert source.sample() == []


def test_what_a_process_of_several_tenants_used_is_told_of_none(tmp_path: Path) -> None:
    """Else each tenant of a process would be told to have used what all of them used, or they would be strangers."""
    proc_of(tmp_path, (11, 1, "kts"), (12, 1, "kts"))
    clock, nvml, source = _processes({11: "fft", 12: SEVERAL}, [11, 12], tmp_path)
    found: list[Sample] = []
    for _ in range(3):
        stamp = clock.after(200 * MS) // 1000
        nvml.processes = [(11, stamp, 40, 10), (12, stamp, 50, 10)]
        found = source.sample()
    assert {one.subject for one in found if one.scope == "tenant"} == {"fft"}
    assert values(found)["others_sm_ratio"] == 0


def test_a_program_is_its_tenants_and_what_is_nobodys_is_told_of_the_device(tmp_path: Path) -> None:
    """Else a program in processes of its own would be a stranger, and a stranger's work nobody's."""
    here = (
        (11, 1, "python"),
        (21, 11, "serve"),
        (22, 21, "serve"),
        (30, 1, "train"),
        (40, 1, "nvidia-cuda-mps-server"),
    )
    proc_of(tmp_path, *here)
    clock, nvml, source = _processes({11: "llm"}, [21, 22, 30, 40], tmp_path)
    found: list[Sample] = []
    for _ in range(3):
        t_us = clock.after(200 * MS) // 1000
        nvml.processes = [(21, t_us, 20, 1), (22, t_us, 10, 2), (30, t_us, 50, 4), (40, t_us, 7, 7)]
        found = source.sample()
    assert values(found) == {
        "llm process_sm_ratio": pytest.approx(0.3),
        "llm process_memory_ratio": pytest.approx(0.03),
        "others_sm_ratio": 0.5,
        "others_memory_ratio": 0.04,
    }
    assert {s.subject for s in found if s.scope == "device"} == {UUID}
