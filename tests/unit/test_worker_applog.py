"""What a worker alone prints around its iterations."""

from __future__ import annotations

import io
import itertools
import re
import zlib

import pytest
from tests.helpers_log import framed_log
from tests.helpers_worker import FakeClock, FakeDevice

from kts.errors import SpecError
from kts.wire.appline import parse_line
from kts.wire.logframe import ECHO, parse_end, parse_meta
from kts.worker.standalone import Settings, measure, read_settings


def printed(settings: Settings) -> tuple[list[str], FakeDevice, FakeClock]:
    """(the lines, the device, the clock) of a run on fakes."""
    clock, out = FakeClock(), io.StringIO()
    device = FakeDevice(clock, lambda _: 2.0)
    measure("fft", settings, device, out, sleep=clock.sleep, offset_ns=lambda: 0, now=clock)
    return out.getvalue().splitlines(keepends=True), device, clock


def settings(**more: object) -> Settings:
    """A small run."""
    base: dict[str, object] = {"iterations": 40, "size": 16, "sleep_ms": 8.0, "phase": "solo", "app": "FFT"}
    return Settings(**{**base, **more})  # type: ignore[arg-type]


def test_plain_by_default() -> None:
    """Else what reads the published lines would meet others."""
    lines, _, _ = printed(settings())
    assert [line and line.i for line in map(parse_line, lines)] == list(range(40))


def test_the_header_comes_first_and_the_trailer_sums_up_every_line() -> None:
    """Else a cut log would look whole."""
    lines, _, _ = printed(settings(framed=True))
    meta, end = parse_meta(lines[0]), parse_end(lines[-1])
    assert meta
    assert end
    assert (meta.size, meta.workload, meta.solo_ms, meta.device.label) == (16, "fft", None, "a fake, not a GPU")
    apps = lines[1:-1]
    assert (end.count, end.crc32) == (40, zlib.crc32("".join(apps).encode()))


def test_each_line_comes_again_at_least_the_lag_later_and_never_inside_an_iteration() -> None:
    """Else a rotation would take a line with its echo, or printing would be measured."""
    clock, out = FakeClock(), io.StringIO()
    at: list[tuple[int, str]] = []
    inside: list[bool] = []

    class Watched(io.StringIO):
        def write(self, text: str) -> int:
            at.extend((clock.ns, line) for line in text.splitlines())
            inside.append(device.calls[-1] not in ("device_ms", "wait") if device.calls else False)
            return out.write(text)

    device = FakeDevice(clock, lambda _: 2.0)
    measure(
        "fft", settings(framed=True, echo_s=0.1), device, Watched(), sleep=clock.sleep, offset_ns=lambda: 0, now=clock
    )
    first = {line.split(",")[3]: ns for ns, line in at if line.startswith("KTS_APP")}
    again = {line.split(",")[3]: ns for ns, line in at if line.startswith(ECHO)}
    assert first.keys() == again.keys()
    assert all(1e8 <= again[i] - first[i] <= 1.3e8 for i in first)
    assert not any(inside)
    ends = [ns for ns, line in at if line.startswith("KTS_END")]
    assert len(ends) == 2
    assert ends[1] - ends[0] >= 1e8


def test_the_last_echoes_come_at_their_time_and_not_in_a_burst() -> None:
    """Else they would fall into one rotation, all of them."""
    kinds = [line.split(",")[0] for line in framed_log(30, echo_s=0.05)]
    assert kinds[-7:] == ["KTS_END", *["KTS_ECHO"] * 5, "KTS_END"]


def test_a_target_is_calibrated_and_the_size_told() -> None:
    """Else the later blocks could not run the same work."""
    lines, _, _ = printed(settings(framed=True, size=None, target_ms=1.0))
    meta = parse_meta(lines[0])
    assert meta
    assert meta.size > 0
    assert meta.solo_ms == pytest.approx(1.0)  # the fake stopwatch shows half


def test_a_duration_ends_it_instead_of_a_number() -> None:
    """Else tenants with seconds would run another amount than was planned."""
    lines, _, _ = printed(settings(iterations=None, seconds=0.1))
    assert 9 <= len(lines) <= 12


def test_jitter_draws_the_same_pauses_for_the_same_seed() -> None:
    """Else the plan's pauses would be others than locally."""
    starts = []
    for seed in (1, 1, 2):
        lines, _, _ = printed(settings(jitter=0.5, seed=seed))
        starts.append([line.start_ns for line in map(parse_line, lines) if line])
    assert starts[0] == starts[1] != starts[2]
    pauses = [b - a - 2_000_000 for a, b in zip(starts[0], starts[0][1:], strict=False)]
    assert 4e6 <= min(pauses) < 6e6
    assert 10e6 < max(pauses) <= 12.1e6


@pytest.mark.parametrize(
    "env",
    [
        {"MATRIX_SIZE": "8", "TARGET_MS": "1"},
        {"ITERATIONS": "8", "DURATION_S": "1"},
        {"KTS_LOG": "loud"},
        {"KTS_APP_NAME": "a,b"},
        {"SLEEP_JITTER": "1.5"},
        {"KTS_ECHO_S": "-1"},
        {"KTS_ECHO_S": "3600"},
        {"TARGET_MS": "0"},
        {"WARMUP": "x"},
        {"MATRIX_SIZE": "1" * 400},
    ],
)
def test_a_bad_setting_is_refused(env: dict[str, str]) -> None:
    """Else a run would measure something else than was asked for."""
    with pytest.raises(SpecError) as caught:
        read_settings("fft", env)
    assert caught.value.remedy


def test_a_step_of_the_clock_moves_lines_and_lengthens_none() -> None:
    """Else a clock that is set while a tenant runs alone would be its slowest iteration."""
    clock, out = FakeClock(), io.StringIO()
    hour = iter([0, 0, 3_600_000_000_000, 3_600_000_000_000])
    device = FakeDevice(clock, lambda _: 2.0)
    measure("fft", settings(iterations=4), device, out, sleep=clock.sleep, offset_ns=lambda: next(hour), now=clock)
    lines = [line for line in map(parse_line, out.getvalue().splitlines()) if line]
    assert [line.end_ns - line.start_ns for line in lines] == pytest.approx([2_000_000] * 4, rel=0.01)
    assert [b.start_ns - a.start_ns > 3.6e12 for a, b in itertools.pairwise(lines)] == [False, True, False]


def test_a_header_whose_checksum_goes_by_another_name_is_damaged() -> None:
    """Else two flipped bits, one of them in that name, would change what a log says of its device."""
    header = next(iter(framed_log(1, 0.0)))
    assert parse_meta(header) is not None
    assert parse_meta(header.replace('"crc32"', '"cvc32"')) is None
    older = re.sub(r',"crc32":"[0-9a-f]+"', "", header)
    assert "crc32" not in older
    assert parse_meta(older) is not None
