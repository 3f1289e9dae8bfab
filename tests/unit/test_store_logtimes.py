"""The times of logs against each other: what cannot be true is left out or doubted, with its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.helpers_store import app_lines

from kts.errors import DataError
from kts.stats import analyse
from kts.store import StoredRun, open_run

T0 = 1_700_000_000_000_000_000
SECOND = 10**9
MS = 10**6


def lines(
    app: str, begin_ns: int = T0, n: int = 10, ms: float = 4.0, every_ms: float = 20.0, **how: float
) -> list[str]:
    """``n`` iterations, one each ``every_ms``; times divided by ``unit`` (1: ns), device time times ``device``."""
    unit, device = int(how.get("unit", 1)), how.get("device", 0.9)
    found = []
    for i in range(n):
        start = begin_ns + round(i * every_ms * MS) + 7 * i
        end = start + round(ms * MS) + i
        found.append(f"KTS_APP,v1,{app.upper()},{i},{start // unit},{end // unit},{ms * device:.6f},")
    return found


def write(folder: Path, **logs: list[str]) -> StoredRun:
    """A folder with these logs, opened."""
    for name, text in logs.items():
        (folder / f"{name.replace('_', '-')}.log").write_text("\n".join(text) + "\n")
    return open_run(folder)


def shared(begin_ns: int = T0 + 300 * SECOND) -> dict[str, list[str]]:
    """Both at once."""
    return {"fft_shared": lines("fft", begin_ns, ms=8), "gemm_shared": lines("gemm", begin_ns, ms=19)}


def reasons(run: StoredRun) -> dict[str, str]:
    """Why blocks are invalid, by condition."""
    return {block.condition: block.reason for block in run.blocks if not block.valid}


def test_solo_logs_that_ran_side_by_side_are_no_baseline(tmp_path: Path) -> None:
    """DF would be told against a neighbour's company, because a name said solo."""
    run = write(tmp_path, fft_solo=lines("fft"), gemm_solo=lines("gemm", T0 + MS), **shared())
    assert reasons(run) == {
        "solo-fft": "fft-solo.log was not alone: 10 of 10 iterations ran beside gemm-solo.log",
        "solo-gemm": "gemm-solo.log was not alone: 10 of 10 iterations ran beside fft-solo.log",
    }


def test_a_solo_log_beside_a_shared_one_is_no_baseline(tmp_path: Path) -> None:
    """The contradiction would be seen only where both are called solo."""
    run = write(tmp_path, fft_solo=lines("fft", T0 + 300 * SECOND, ms=8), gemm_shared=lines("gemm", T0 + 300 * SECOND))
    assert "solo-fft" in reasons(run)


@pytest.mark.parametrize("names", [("fft_solo", "fft_solo_retry"), ("fft_a", "fft_b"), ("solo_1", "solo_2")])
def test_a_job_that_ran_twice_is_no_baseline(tmp_path: Path, names: tuple[str, str]) -> None:
    """Two pods at once would be pooled as two executions, each alone."""
    run = write(tmp_path, **{names[0]: lines("fft"), names[1]: lines("fft", T0 + 2 * MS, ms=5)})
    assert len(reasons(run)) == 1
    assert [block.valid for block in run.blocks] == [False, False]


def test_a_moment_of_company_costs_only_its_iterations(tmp_path: Path) -> None:
    """Minutes alone would be thrown away because the next program started early."""
    run = write(tmp_path, fft_solo=lines("fft", n=100), gemm_solo=lines("gemm", T0 + 1981 * MS), **shared())
    assert reasons(run) == {"solo-gemm": "gemm-solo.log was not alone: 1 of 10 iterations ran beside fft-solo.log"}
    assert len(run.records("fft", 0)) == 99
    assert any("fft alone, 1 of 100 iterations ran beside gemm-solo.log: these are left out" in d for d in run.damage)


def test_phases_that_alternate_are_alone(tmp_path: Path) -> None:
    """Solo phases that take turns within two long logs would count as company."""
    fft = [line + "solo" for line in lines("fft", n=100)]
    gemm = [line + "solo" for line in lines("gemm", T0 + 10 * MS, n=100, ms=5)]
    assert reasons(write(tmp_path, fft=fft, gemm=gemm)) == {}


@pytest.mark.parametrize("copy", ["fft_solo_copy", "a_solo", "fft_solo_1_of_2"])
def test_one_log_under_two_names_counts_once(tmp_path: Path, copy: str) -> None:
    """Doubled samples would make intervals narrower than the data allow."""
    run = write(tmp_path, **{"fft_solo": lines("fft"), copy: lines("fft")[:7] if "1_of" in copy else lines("fft")})
    assert sum(block.counts["fft"] for block in run.blocks if block.valid) == 10
    (told,) = run.damage
    assert "iterations of fft dropped" in told
    assert "has the same" in told


def test_one_log_as_two_conditions_is_what_time_says(tmp_path: Path) -> None:
    """The same iterations would be the solo and the shared side of one figure."""
    run = write(tmp_path, fft_solo=lines("fft"), fft_shared=lines("fft"))
    assert [(block.condition, block.valid) for block in run.blocks] == [("solo-fft", True)]
    assert "say different conditions of the same iterations" in run.info.doubts[0]


@pytest.mark.parametrize(
    ("device", "unit"),
    [(900.0, ": device_ms looks like microseconds"), (9e5, ": device_ms looks like nanoseconds"), (1.3, "")],
)
def test_a_device_time_above_the_response_is_not_taken(tmp_path: Path, device: float, unit: str) -> None:
    """3920 ms of device time in a response of 4 ms would be reported with three digits."""
    run = write(tmp_path, fft_solo=lines("fft", device=device))
    assert run.damage[0].startswith("fft-solo.log: 10 of 10 device times of fft, longer than the iteration")
    assert run.damage[0].endswith(unit or "iteration 0)")
    assert np.isnan(run.records("fft", 0)["device_ms"]).all()


def test_a_single_device_time_above_the_response_goes_alone(tmp_path: Path) -> None:
    """One odd line would cost all device times."""
    text = lines("fft")
    text[4] = text[4].replace("3.600000", "36.000000")
    run = write(tmp_path, fft_solo=text)
    assert np.flatnonzero(np.isnan(run.records("fft", 0)["device_ms"])).tolist() == [4]


def test_clocks_that_differ_a_little_are_granted(tmp_path: Path) -> None:
    """Device times of another clock, or beside times in whole milliseconds, would be called wrong."""
    assert write(tmp_path, fft_solo=lines("fft", device=1.02)).damage == ()
    coarse = [f"KTS_APP,v1,FFT,{i},{T0 + 20 * i * MS},{T0 + (20 * i + 3) * MS},3.700000," for i in range(5)]
    assert write(tmp_path, fft_solo=coarse).damage == ()


@pytest.mark.parametrize(
    ("unit", "like"),
    [(10**9, "seconds since 1970"), (10**6, "milliseconds since 1970"), (10**3, "microseconds since 1970")],
)
def test_epochs_in_another_unit_are_left_out_by_name(tmp_path: Path, unit: int, like: str) -> None:
    """Responses would be 1000 times too short."""
    run = write(tmp_path, fft_solo=lines("fft", unit=unit), gemm_solo=lines("gemm", T0 + 90 * SECOND))
    assert f"fft-solo.log: start_ns and end_ns look like {like}" in reasons(run)["solo-fft"]
    assert [block.condition for block in run.blocks if block.valid] == ["solo-gemm"]


def test_whole_seconds_are_no_times(tmp_path: Path) -> None:
    """A clock of seconds, multiplied, would give responses of zero."""
    coarse = [f"KTS_APP,v1,FFT,{i},{T0 + i // 3 * SECOND},{T0 + i // 2 * SECOND},3.7," for i in range(9)]
    assert "come in whole seconds" in reasons(write(tmp_path, fft_solo=coarse))["solo-fft"]


@pytest.mark.parametrize("uptime_s", [3, 8_000, 1_700_000])
def test_a_clock_since_boot_is_doubted_and_its_durations_are_taken(tmp_path: Path, uptime_s: int) -> None:
    """Nobody would know that logs of two machines cannot be put side by side; or 20 days of uptime pass for us."""
    run = write(tmp_path, fft_solo=lines("fft", uptime_s * SECOND))
    assert reasons(run) == {}
    assert "do not count from 1970" in run.info.doubts[0]
    assert [w.text for w in analyse(run).summary.warnings if w.code == "doubt"] == [f"In doubt: {run.info.doubts[0]}."]


@pytest.mark.parametrize("back_ms", [50, 3_600_000])
@pytest.mark.parametrize("at", [1, 6, 9])
def test_a_clock_set_back_is_told_and_nothing_is_lost(tmp_path: Path, back_ms: int, at: int) -> None:
    """Lines in perfect order would be called out of order, or one execution become two."""
    begin = lines("fft")
    behind = lines("fft", T0 - back_ms * MS)
    run = write(tmp_path, fft_solo=begin[:at] + behind[at:])
    assert run.damage == ()
    assert run.records("fft", 0)["i"].tolist() == list(range(10))
    (doubt,) = run.info.doubts
    assert f"or more between iterations {at - 1} and {at}, at line {at + 1}" in doubt


def test_a_clock_set_back_leaves_no_throughput(tmp_path: Path) -> None:
    """How long the iterations took in all is not known; a rate of that time was 1.4 times the real one."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "stepped").mkdir()
    begin, behind = lines("fft"), lines("fft", T0 - 50 * MS)
    whole = analyse(write(tmp_path / "whole", fft_solo=begin)).summary.tenants["fft"]
    stepped = analyse(write(tmp_path / "stepped", fft_solo=begin[:5] + behind[5:])).summary.tenants["fft"]
    assert whole.throughput.solo.real is not None
    assert stepped.throughput.solo.real is None
    assert stepped.throughput.solo.proxy == whole.throughput.solo.proxy


def test_a_clock_set_back_within_an_iteration_says_so(tmp_path: Path) -> None:
    """A torn line would be suspected where the clock is at fault."""
    text = lines("fft")
    start, end = text[4].split(",")[4:6]
    text[4] = text[4].replace(end, str(int(end) - 50 * MS))
    assert int(start) > int(end) - 50 * MS
    assert "ms before start_ns: cut off, or a clock set back" in write(tmp_path, fft_solo=text).damage[1]


@pytest.mark.parametrize("within", [True, False])
def test_a_clock_set_forward_is_doubted(tmp_path: Path, within: bool) -> None:
    """An hour that no program took would pass as the slowest iteration, or as a pause."""
    text, later = lines("fft"), lines("fft", T0 + 3600 * SECOND)
    if within:
        text[4] = text[4].replace(text[4].split(",")[5], later[4].split(",")[5])
    run = write(tmp_path, fft_solo=text[:5] + later[5:])
    assert any("3.6e+03 s passed" in doubt and "clock set forward" in doubt for doubt in run.info.doubts)


def test_a_moment_of_overlap_without_labels_is_told(tmp_path: Path) -> None:
    """Solo runs would become shared ones because of one millisecond, and nobody would know why."""
    run = write(tmp_path, a=lines("fft"), b=lines("gemm", T0 + 183 * MS), c=lines("fft", T0 + 90 * SECOND))
    (doubt,) = run.info.doubts
    assert doubt.startswith("a.log overlaps b.log by 1.00 ms of 184 ms: taken as shared")


def test_lines_that_were_lost_cost_the_tail(tmp_path: Path) -> None:
    """The slow ones may be those that could not be read: p99 would be told from the rest."""
    values = [4.0 + n % 7 / 10 for n in range(1000)]
    text = app_lines("fft", values, T0)
    text[100:700:100] = [line.replace("KTS_APP,v1,", "KTS_APP,v9,") for line in text[100:700:100]]
    run = write(tmp_path, fft_solo=text)
    figures = analyse(run).summary.tenants["fft"].response.solo
    assert figures.p99.refused == "6 of 1000 iterations could not be read: the slowest may be among them"
    assert figures.p95.estimate is not None


def test_nothing_but_times_of_another_unit_is_explained(tmp_path: Path) -> None:
    """An empty report."""
    run = write(tmp_path, fft_solo=lines("fft", unit=1000))
    assert not any(block.valid for block in run.blocks)
    (tmp_path / "fft-solo.log").write_text("KTS_APP,v1,FFT,0,1,2,x\n")
    with pytest.raises(DataError, match="device_ms 'x'"):
        open_run(tmp_path)
