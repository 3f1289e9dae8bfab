"""Scraping a dcgm-exporter, over a real socket."""

from __future__ import annotations

import pytest
from tests.helpers_telemetry import MS, UUID, Clock, S, exporter, exporter_text

from kts.errors import UsageError
from kts.telemetry.dcgm import MOST_BYTES, MOST_FAILURES, DcgmSource, device_values
from kts.telemetry.source import SourceMissingError


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


def test_only_news_is_a_sample_and_the_interval_is_the_exporters_own() -> None:
    """Else an exporter that collects every 30 s would look as if it had been read every 100 ms."""
    clock = Clock()
    with exporter() as served:
        served.text = exporter_text(sm=0.5)
        source = DcgmSource(served.url, clock=clock)
        source.open(UUID)
        found = []
        for tick in range(1, 101):
            clock.after(100 * MS)
            served.text = exporter_text(sm=0.5 + tick // 30 / 100)  # changes at 3, 6 and 9 s
            found += [s for s in source.sample() if s.metric == "sm_active_ratio"]
        assert served.asked == 101
        assert [(s.span_ns, s.value) for s in found] == [(3 * S, 0.52), (3 * S, 0.53)]
        assert "every 3 s" in source.state().note
        source.close()


def test_momentary_fields_are_not_said_to_cover_the_interval() -> None:
    """Else a clock read once would be taken for the mean over half a minute."""
    clock = Clock()
    with exporter() as served:
        source = DcgmSource(served.url, clock=clock)
        source.open(UUID)
        spans: dict[str, int] = {}
        for k in range(2):
            clock.after(S)
            served.text = exporter_text(sm=0.1 + k / 10)
            spans = {s.metric: s.span_ns for s in source.sample()}
        assert spans["sm_clock_mhz"] == spans["power_w"] == 0
        assert spans["sm_active_ratio"] == spans["dram_active_ratio"] == S
        source.close()


def test_an_exporter_that_never_changes_gives_nothing_and_says_so() -> None:
    """Else one old value would stand for the whole run."""
    clock = Clock()
    with exporter() as served:
        source = DcgmSource(served.url, clock=clock)
        source.open(UUID)
        for _ in range(20):
            clock.after(100 * MS)
            assert source.sample() == []
        assert "less than twice" in source.state().note
        source.close()


def test_an_exporter_without_profiling_fields_is_named() -> None:
    """Else it would not be clear why there is no SM activity although DCGM was asked."""
    with exporter() as served:
        served.text = "\n".join(line for line in exporter_text().splitlines() if "_PROF_" not in line)
        source = DcgmSource(served.url)
        state = source.open(UUID)
        assert "no PROF fields" in state.note
        assert "sm_active_ratio" not in state.metrics
        source.close()


@pytest.mark.parametrize("what", ["status", "size", "nothing"])
def test_an_exporter_that_fails_is_given_up_after_a_while(what: str) -> None:
    """Else a scrape that cannot work would be tried for ever, or a huge answer fill the memory."""
    with exporter() as served:
        source = DcgmSource(served.url)
        source.open(UUID)
        if what == "status":
            served.status = 503
        elif what == "size":
            served.text = "x" * (MOST_BYTES + 1)
        else:
            served.text = ""
        if what == "nothing":
            assert source.sample() == []
        else:
            for _ in range(MOST_FAILURES - 1):
                assert source.sample() == []
            with pytest.raises(SourceMissingError, match=r"503|4 MiB"):
                source.sample()
        source.close()


def test_one_that_comes_back_is_read_again() -> None:
    """Else one hiccup of the exporter would end the telemetry."""
    clock = Clock()
    with exporter() as served:
        source = DcgmSource(served.url, clock=clock)
        source.open(UUID)
        served.status = 500
        assert source.sample() == []
        served.status = 200
        found = []
        for k in range(3):
            clock.after(S)
            served.text = exporter_text(sm=k / 10)
            found += source.sample()
        assert found
        source.close()


def test_nobody_there_is_named() -> None:
    """Else a wrong address would look like a GPU without DCGM."""
    with exporter() as served:
        url = served.url
    with pytest.raises(SourceMissingError, match="no metrics from"):
        DcgmSource(url).open(UUID)


@pytest.mark.parametrize("url", ["", "http://", "ftp://host/metrics", "http://host:port/metrics", "file:///etc/passwd"])
def test_what_is_no_url_is_a_usage_error(url: str) -> None:
    """Else it would be found out only after the run."""
    with pytest.raises(UsageError, match="--dcgm"):
        DcgmSource(url)


@pytest.mark.parametrize("text", ["", "{}", "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_GPU_UTIL{} x\n\0", "}" * 10_000])
def test_text_that_is_no_metrics_is_passed_over(text: str) -> None:
    """Else a proxy's error page would end the telemetry with a traceback."""
    assert device_values(text, UUID) == {}
