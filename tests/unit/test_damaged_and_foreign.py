"""Files and names from elsewhere, samples too small and values that cannot be: one line, a remedy, an exit code."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.helpers_physics import fingerprint, profile
from tests.helpers_store import write_run

from kts import files
from kts.cli.main import main
from kts.errors import DataError
from kts.physics.files import decode_prediction
from kts.physics.predict import Effort, Predictor
from kts.telemetry.dcgm import device_values
from kts.telemetry.source import plausible

EPOCH_NS = 1_700_000_000_000_000_000
GPU = "GPU-5"


def _logs(folder: Path, n: int, ms: float) -> Path:
    """Logs of two tenants, each alone and both together: ``n`` iterations of ``ms``."""
    folder.mkdir()
    for number, (name, phase) in enumerate((n, p) for n in ("A", "B") for p in ("solo", "shared")):
        begin = EPOCH_NS + (0 if phase == "shared" else 1 + number) * 3_600_000_000_000
        lines = [
            f"KTS_APP,v1,{name},{i},{begin + i * 10**7},{begin + i * 10**7 + round(ms * 1e6)},{ms:.6f},{phase}\n"
            for i in range(n)
        ]
        (folder / f"{name}-{phase}.log").write_text("".join(lines), encoding="utf-8")
    return folder


def _error(code: int, *arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([str(argument) for argument in arguments]) == code
    error = capsys.readouterr().err
    assert "  try: " in error
    assert "unexpected" not in error
    return error


@pytest.mark.parametrize(
    ("n", "ms", "why"),
    [
        (50, 0.0, "its iterations take no time"),
        (1, 4.0, "p50 needs 6 iterations, have 1"),
        (5, 4.0, "p50 needs 6 iterations, have 5"),
    ],
)
def test_a_sample_that_supports_nothing_predicts_nothing(
    n: int, ms: float, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else zeros would end in a division by zero, and one iteration in bands without width."""
    folder = _logs(tmp_path / "logs", n, ms)
    assert why in _error(7, "predict", "--from-run", folder, "--assume", "2,0.1,0.1", capsys=capsys)


def test_a_profile_in_a_file_of_one_iteration_predicts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the check would be at one source of profiles and not at the other."""
    (tmp_path / "a.json").write_bytes(files.encode(profile("a", 3.0, n=1, solo=False)))
    error = _error(7, "predict", "a*2", "--profiles", tmp_path / "a.json", "--assume", "2,0.1,0.1", capsys=capsys)
    assert "have 1" in error


@pytest.mark.parametrize(("n", "told"), [(10, {"p50"}), (40, {"p50", "p95"}), (120, {"p50", "p95", "p99", "p999"})])
def test_quantiles_that_a_profile_cannot_support_are_not_predicted(n: int, told: set[str]) -> None:
    """Else a p99 would come from ten iterations, drawn again and again."""
    known = {"a": profile("a", 3.0, n=n, solo=False), "b": profile("b", 3.0)}
    effort = Effort(iterations=6000, replicates=3, replicate_budget=2000)
    prediction = Predictor(known, fingerprint(), effort).predict([("a", "b")])
    for tenant in prediction.mixes[0].tenants.values():
        for figures in (tenant.response, tenant.service):
            assert {name for name in ("p50", "p95", "p99", "p999") if getattr(figures, name).value is not None} == told
    assert any(f"a: {n} iterations alone" in note for note in prediction.notes) is (len(told) < 4)


@pytest.mark.parametrize(
    "band",
    [
        {"value": -5.0, "lo": -6.0, "hi": -4.0},
        {"value": 5.0, "lo": 6.0, "hi": 4.0},
        {"value": 5.0, "lo": 5.5, "hi": 6.0},
        {"value": 5.0, "lo": None, "hi": 6.0},
        {"value": 1e300, "lo": 1.0, "hi": 1e301},
    ],
)
def test_a_prediction_with_a_band_that_cannot_be_is_not_scored(band: dict[str, float | None], tmp_path: Path) -> None:
    """Else an edited file would be scored as if a run could be like that."""
    known = {name: profile(name, 3.0) for name in ("a", "b")}
    made = Predictor(known, fingerprint(), Effort(iterations=300, budget=900, replicates=2)).predict([("a", "b")])
    content = json.loads(files.encode(made))
    content["mixes"][0]["tenants"]["a"]["response"]["p50"] = band
    with pytest.raises(DataError, match="not a prediction"):
        decode_prediction(json.dumps(content).encode(), str(tmp_path))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("DCGM_FI_DEV_GPU_UTIL", "4294967295"),
        ("DCGM_FI_DEV_GPU_UTIL", "101"),
        ("DCGM_FI_DEV_MEM_COPY_UTIL", "2147483632"),
        ("DCGM_FI_PROF_SM_ACTIVE", "140737488355328.000000"),
        ("DCGM_FI_PROF_DRAM_ACTIVE", "1.7"),
        ("DCGM_FI_PROF_SM_OCCUPANCY", "-0.1"),
        ("DCGM_FI_DEV_SM_CLOCK", "2147483635"),
        ("DCGM_FI_DEV_POWER_USAGE", "140737488355330"),
        ("DCGM_FI_DEV_POWER_USAGE", "9223372036854775794"),
        ("DCGM_FI_DEV_POWER_USAGE", "NaN"),
        ("DCGM_FI_DEV_POWER_USAGE", "+Inf"),
    ],
)
def test_what_no_device_can_have_is_left_out(field: str, value: str) -> None:
    """Else a blank of DCGM would enter the means as a utilisation of 4294967295 %."""
    assert device_values(f'{field}{{gpu="0",UUID="{GPU}"}} {value}\n', GPU) == {}


def test_a_value_of_a_pod_is_not_the_devices() -> None:
    """Else one pod's share would be told as what the whole device did."""
    line = 'DCGM_FI_DEV_GPU_UTIL{{UUID="{gpu}"{labels}}} {value}\n'

    def read(*rows: tuple[str, int]) -> dict[str, float]:
        return device_values("".join(line.format(gpu=GPU, labels=more, value=value) for more, value in rows), GPU)

    assert read((',pod="a"', 30), (',pod="b"', 50)) == {}
    assert read((',pod="a"', 80), (',pod="b"', 80)) == {"gpu_busy_ratio": 0.8}
    assert read((',pod="a"', 30), ("", 80), (',pod="b"', 50)) == {"gpu_busy_ratio": 0.8}
    assert read((',pid="7",process_name="x"', 30)) == {}


@pytest.mark.parametrize(
    ("metric", "value", "taken"),
    [
        ("sm_active_ratio", 0.5, 0.5),
        ("sm_active_ratio", 1.004, 1.0),
        ("process_sm_ratio", 42949672.95, None),
        ("sm_clock_mhz", 1980.0, 1980.0),
        ("sm_clock_mhz", 4294967.0, None),
        ("power_w", 4294967.295, None),
        ("power_w", -1.0, None),
        ("cpu_wait_ratio", float("nan"), None),
    ],
)
def test_every_source_leaves_out_what_cannot_be(metric: str, value: float, taken: float | None) -> None:
    """Else the same blanks would come in through NVML."""
    assert plausible(metric, value) == taken


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000])
@pytest.mark.parametrize("command", ["compare X X", "predict --profiles X --assume 2,1,1", "validate X RUN"])
def test_deep_json_is_told_by_every_reader(
    content: bytes, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else one command would catch it and the others end in Python's own words."""
    write_run(tmp_path / "run")
    (tmp_path / "x.json").write_bytes(content)
    places = {"X": str(tmp_path / "x.json"), "RUN": str(tmp_path / "run")}
    assert "not a " in _error(6, *(places.get(word, word) for word in command.split()), capsys=capsys)
    (tmp_path / "run" / "run.json").write_bytes(content)
    assert "not a run" in _error(6, "report", tmp_path / "run", capsys=capsys)


@pytest.mark.parametrize("content", ['{"run": 7}', "[]", '{"schema": "draft-07", "kts": 3}', "no json"])
def test_another_programs_run_json_beside_logs_is_named(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else good logs would be "damaged", to be restored from a copy that never was."""
    folder = _logs(tmp_path / "logs", 10, 3.0)
    (folder / "run.json").write_text(content, encoding="utf-8")
    error = _error(6, "report", folder, "--no-figures", capsys=capsys)
    assert "not a kts run" in error
    assert "logs can be reported from a directory without that file" in error


def test_names_that_are_no_utf8_are_shown_and_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else a directory from another system could not be reported."""
    _logs(tmp_path / "logs", 400, 3.0).rename(folder := Path(os.fsdecode(os.fsencode(tmp_path) + b"/l\xff\xe9gs")))
    assert main(["report", str(folder), "--no-figures", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == "l\ufffd\ufffdgs"
    assert "l\ufffd\ufffdgs" in (folder / "results.md").read_text(encoding="utf-8")
    (folder / "run.json").write_text("{}", encoding="utf-8")
    assert "l\ufffd\ufffdgs" in _error(6, "report", folder, capsys=capsys)
