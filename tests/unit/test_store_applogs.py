"""A directory of KTS_APP v1 logs as a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.helpers_log import META, framed_log
from tests.helpers_store import PUBLISHED_MS, app_lines, reference_logs

from kts.errors import DataError
from kts.store import StoredRun, open_run

T0 = 1_700_000_000_000_000_000
SECOND = 10**9


def _write(path: Path, lines: list[str], end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(line.rstrip("\n") for line in lines) + end)


def _shape(run: StoredRun) -> list[tuple[str, int, bool, dict[str, int]]]:
    return [(block.condition, block.round, block.valid, block.counts) for block in run.blocks]


def _one(tmp_path: Path, lines: list[str], end: str = "\n") -> StoredRun:
    _write(tmp_path / "fft-solo.log", lines, end)
    return open_run(tmp_path)


def test_the_references_logs_become_its_three_conditions_with_every_value(tmp_path: Path) -> None:
    """The published figures could not be reproduced from the published style of input."""
    values = reference_logs(tmp_path / "run-7", seed=3)
    run = open_run(tmp_path / "run-7")
    assert run.damage == ()
    assert _shape(run) == [
        ("solo-fft", 0, True, {"fft": 800}),
        ("solo-gemm", 0, True, {"gemm": 800}),
        ("shared-fft+gemm", 0, True, {"fft": 800, "gemm": 800}),
    ]
    for (app, condition), expected in values.items():
        block = 2 if condition == "shared" else ("fft", "gemm").index(app)
        records = run.records(app, block)
        assert records["device_ms"].tolist() == expected.tolist()
        assert (records["due_ns"] == records["submit_ns"]).all()
        assert (records["retire_ns"] - records["submit_ns"]) / 1e6 == pytest.approx(expected + 0.2)
        assert np.quantile(records["device_ms"], (0.5, 0.95, 0.99)) == pytest.approx(PUBLISHED_MS[app, condition])


def test_what_the_logs_do_not_say_is_not_invented(tmp_path: Path) -> None:
    """A report would name a device, a mode or a clock that nobody recorded."""
    reference_logs(tmp_path / "run-7", iterations=20)
    info = open_run(tmp_path / "run-7").info
    assert (info.id, info.backend, info.sharing.words(), info.outcome.kind) == ("run-7", "logs", "unknown", "complete")
    assert {worker.device.label for worker in info.workers} == {"device not recorded in the logs"}
    assert {worker.device.kind for worker in info.workers} == {"other"}
    assert "CLOCK_REALTIME" in info.notes[0]
    assert (info.plan.design, info.plan.rounds) == ("classic", 1)
    assert [(t.name, t.work.workload, t.work.size, t.iterations) for t in info.plan.tenants] == [
        ("fft", "fft", None, 20),
        ("gemm", "gemm", None, 20),
    ]
    assert info.plan.full_house.name == "shared-fft+gemm"


@pytest.mark.parametrize(
    ("solo", "shared"),
    [
        ("solo/{}.log", "both/{}.log"),
        ("{}_alone.txt", "{}_together.txt"),
        ("isolated-{}", "contended-{}"),
        ("shared/{}-solo.log", "solo/{}-shared.log"),
        ("a-{}.log", "b-{}.log"),
    ],
)
def test_conditions_from_names_or_else_from_overlap_in_time(tmp_path: Path, solo: str, shared: str) -> None:
    """Shared samples would be taken for solo ones."""
    _write(tmp_path / solo.format("fft"), app_lines("fft", [3.0] * 9, T0))
    _write(tmp_path / solo.format("gemm"), app_lines("gemm", [20.0] * 8, T0 + 100 * SECOND))
    _write(tmp_path / shared.format("fft"), app_lines("fft", [4.0] * 7, T0 + 200 * SECOND))
    _write(tmp_path / shared.format("gemm"), app_lines("gemm", [22.0] * 6, T0 + 200 * SECOND))
    assert _shape(open_run(tmp_path)) == [
        ("solo-fft", 0, True, {"fft": 9}),
        ("solo-gemm", 0, True, {"gemm": 8}),
        ("shared-fft+gemm", 0, True, {"fft": 7, "gemm": 6}),
    ]


def test_phase_field_decides_and_warm_up_is_left_out(tmp_path: Path) -> None:
    """Warm-up would be measured, or a phase that contradicts the file's name be ignored."""
    lines = app_lines("fft", [9.0] * 5, T0, "warm-up")
    lines += app_lines("fft", [3.0] * 10, T0 + 10 * SECOND, "solo")
    lines += app_lines("fft", [4.0] * 6, T0 + 30 * SECOND, "shared")
    _write(tmp_path / "fft-solo.log", lines)
    _write(tmp_path / "gemm.log", app_lines("gemm", [20.0] * 6, T0 + 30 * SECOND, "shared"))
    run = open_run(tmp_path)
    assert _shape(run) == [("solo-fft", 0, True, {"fft": 10}), ("shared-fft+gemm", 0, True, {"fft": 6, "gemm": 6})]
    assert run.damage == ()


def test_repeated_executions_are_blocks_of_their_own(tmp_path: Path) -> None:
    """Two runs of one program would be mixed, or one of them dropped as duplicates."""
    _write(tmp_path / "1" / "fft-solo.log", app_lines("fft", [3.0] * 5, T0))
    again = app_lines("fft", [3.1] * 5, T0 + 10 * SECOND) + app_lines("fft", [3.2] * 4, T0 + 20 * SECOND)
    _write(tmp_path / "2" / "fft-solo.log", again)
    run = open_run(tmp_path)
    assert _shape(run) == [("solo-fft", n, True, {"fft": rows}) for n, rows in enumerate((5, 5, 4))]
    assert run.damage == ()
    assert run.info.plan.rounds == 3


def test_torn_lines_are_dropped_and_named(tmp_path: Path) -> None:
    """A cut line would be read with a wrong number, or stop the report."""
    lines = app_lines("fft", [3.598] * 6, T0, "solo")
    whole = len(lines[5])
    lines[2] = lines[2][:50]
    for cut in range(1, whole):
        run = _one(tmp_path, [*lines[:5], lines[5][:cut]], end="")
        assert run.records("fft", 0)["i"].tolist() == [0, 1, 3, 4], cut
        assert set(run.records("fft", 0)["device_ms"]) == {3.598}
        torn = "2 torn or damaged lines dropped, first at line 3"
        alone = "1 torn or damaged line dropped, at line 3"
        assert run.damage[0] == f"fft-solo.log: {torn if cut >= len('KTS_APP,') else alone}"
        assert run.damage[-1] == "fft-solo.log: fft: 1 of iterations 0 to 4 missing, first 2"


def test_repeated_reordered_and_foreign_lines_are_named_and_harmless(tmp_path: Path) -> None:
    """An iteration would count twice, out of order, or a program's own output stop the report."""
    lines = app_lines("fft", [3.0 + n / 10 for n in range(6)], T0)
    mixed = ["starting up", lines[0], lines[2], lines[1], lines[3], "", lines[3], "Traceback: no", lines[4], lines[5]]
    run = _one(tmp_path, mixed)
    assert run.damage == (
        "fft-solo.log: 2 foreign lines ignored, first at line 1",
        "fft-solo.log: 1 line out of order, sorted, at line 4",
        "fft-solo.log: 1 repeated line dropped, at line 7",
    )
    records = run.records("fft", 0)
    assert records["i"].tolist() == list(range(6))
    assert records["device_ms"].tolist() == [3.0 + n / 10 for n in range(6)]


def test_a_number_used_twice_keeps_the_first(tmp_path: Path) -> None:
    """Two different iterations of one number would both be trusted."""
    lines = app_lines("fft", [3.0] * 6, T0)
    lines[4] = lines[4].replace(",4,", ",3,", 1)
    run = _one(tmp_path, lines)
    assert run.records("fft", 0)["i"].tolist() == [0, 1, 2, 3, 5]
    assert run.damage == (
        "fft-solo.log: fft: 1 iterations with a number used before, dropped",
        "fft-solo.log: fft: 1 of iterations 0 to 5 missing, first 4",
    )


def test_trim_drops_the_first_iterations_of_each_log(tmp_path: Path) -> None:
    """Warm-up recorded as samples could not be left out."""
    reference_logs(tmp_path, iterations=20)
    run = open_run(tmp_path, trim=5)
    assert [block.counts for block in run.blocks] == [{"fft": 15}, {"gemm": 15}, {"fft": 15, "gemm": 15}]
    assert run.records("fft", 0)["i"][0] == 5
    assert any("first 5 iterations" in note for note in run.info.notes)
    with pytest.raises(DataError, match="trimmed"):
        open_run(tmp_path, trim=20)


def test_shared_without_a_neighbour_is_not_analysed(tmp_path: Path) -> None:
    """Solo samples would be reported as shared because a log is missing."""
    _write(tmp_path / "fft-solo.log", app_lines("fft", [3.0] * 5, T0))
    _write(tmp_path / "gemm-solo.log", app_lines("gemm", [20.0] * 5, T0 + 50 * SECOND))
    _write(tmp_path / "fft-shared.log", app_lines("fft", [3.0] * 5, T0 + 100 * SECOND))
    run = open_run(tmp_path)
    assert _shape(run)[-1] == ("shared-fft+gemm", 0, False, {"fft": 5})
    assert "no other log overlaps" in run.blocks[-1].reason


def test_same_app_within_one_shared_block(tmp_path: Path) -> None:
    """Restarts beside one long neighbour would be lost, or two pods of one app be mixed into one."""
    _write(tmp_path / "gemm-shared.log", app_lines("gemm", [20.0] * 50, T0))
    _write(tmp_path / "fft-shared-1.log", app_lines("fft", [3.0] * 5, T0))
    _write(tmp_path / "fft-shared-2.log", app_lines("fft", [3.1] * 5, T0 + 2 * SECOND))
    _write(tmp_path / "fft-shared-3.log", app_lines("fft", [3.2] * 5, T0 + 2 * SECOND))
    run = open_run(tmp_path)
    assert _shape(run) == [("shared-gemm+fft", 0, True, {"gemm": 50, "fft": 10})] or _shape(run) == [
        ("shared-fft+gemm", 0, True, {"gemm": 50, "fft": 10})
    ]
    assert run.records("fft", 0)["i"].tolist() == list(range(10))
    assert run.damage == (
        "fft-shared-2.log: fft joined to fft-shared-1.log in one shared block, renumbered",
        "fft-shared-3.log: dropped, fft-shared-1.log is of the same app at the same time",
    )


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """A CSV, a picture or a binary beside the logs would be parsed or stop the report."""
    reference_logs(tmp_path, iterations=10)
    (tmp_path / "dcgm.csv").write_text("KTS_APP,v1,no\n")
    (tmp_path / ".hidden.log").write_text("x\n")
    (tmp_path / "core").write_bytes(bytes(range(256)) * 10)
    assert [line.split(":")[0] for line in open_run(tmp_path).damage] == ["core"]


@pytest.mark.parametrize("text", ["hello\n", "KTS_APP,v2,FFT,0,1,2,3.000000,\n"])
def test_nothing_to_report_is_explained(tmp_path: Path, text: str) -> None:
    """A traceback, or an empty report."""
    (tmp_path / "a.log").write_text(text)
    with pytest.raises(DataError, match="neither a kts run nor KTS_APP v1 lines") as caught:
        open_run(tmp_path)
    assert "a.log: 1 " in caught.value.what
    assert "KTS_APP,v1" in caught.value.remedy


def test_what_frames_a_log_is_known_and_tells_the_device(tmp_path: Path) -> None:
    """Every framed log would be reported as damaged, and its device as unknown."""
    _write(tmp_path / "fft.log", framed_log(30))
    run = open_run(tmp_path)
    assert (run.damage, _shape(run)) == ((), [("solo-fft", 0, True, {"fft": 30})])
    (worker,) = run.info.workers
    assert (worker.device, worker.gpus, worker.hostname) == (META.device, ("GPU-1",), "pod")
    assert run.info.plan.tenants[0].work.size == 64


def test_an_echo_stands_in_for_its_line_alone(tmp_path: Path) -> None:
    """A line lost where a log was rotated would be missing, or all lines would count twice."""
    lines = framed_log(30)
    _write(tmp_path / "fft.log", [line for line in lines if not line.startswith("KTS_APP,v1,FFT,7,")])
    run = open_run(tmp_path)
    assert run.records("fft", 0)["i"].tolist() == list(range(30))
    assert len(run.damage) == 1
    assert run.damage[0].startswith("fft.log: 1 line lost, taken from the echo, at line ")


def test_a_trailer_that_announces_more_is_named(tmp_path: Path) -> None:
    """A log that lost lines at its end, with their echoes, would look whole."""
    _write(tmp_path / "fft.log", [line for line in framed_log(30) if ",v1,FFT,29," not in line])
    assert open_run(tmp_path).damage == ("fft.log: fft has 29 iterations, and its trailer announces 30",)


@pytest.mark.parametrize("line", ["KTS_META,v1,{", "KTS_ECHO,v1,FFT,1,2", "KTS_END,v1,FFT,3,zz", "KTS_META,v2,{}"])
def test_a_torn_frame_is_damage_and_not_foreign(line: str, tmp_path: Path) -> None:
    """Damage would pass as something else's output."""
    run = _one(tmp_path, [*app_lines("fft", [3.0] * 5, T0), line])
    assert run.damage == ("fft-solo.log: 1 torn or damaged line dropped, at line 6",)
