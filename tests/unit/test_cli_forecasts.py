"""`kts predict`, `kts whatif`, `kts validate`: from a recorded run to a scored prediction, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import msgspec
import pytest
from tests.helpers_cli import record
from tests.helpers_physics import fingerprint, pair_of_profiles, profile

from kts.cli.main import main
from kts.files import encode
from kts.report.charts_forecast import draw_score
from kts.report.forecasts import figure_name
from kts.store import fingerprints

ASSUMED = ("--assume", "2,0.18,0.1")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("run") / "run")


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    folder = tmp_path / "profiles"
    folder.mkdir()
    return pair_of_profiles(folder, n=50)


@pytest.fixture
def places(profiles: Path, run: Path, tmp_path: Path) -> dict[str, str]:
    return {"PROFILES": str(profiles), "RUN": str(run), "EMPTY": str(tmp_path)}


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `kts probe` keeps fingerprints; empty at first."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return fingerprints.directory({"XDG_DATA_HOME": str(tmp_path / "data")})


def test_what_the_probe_kept_of_this_gpu_is_used(
    profiles: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a user would have to say where kts itself has put what it measured, or would get another GPU's."""
    gpu = profile("fft", 3.6, n=50).gpu
    fingerprints.keep(msgspec.structs.replace(fingerprint(1.25), gpu=gpu), data)
    asked = ["predict", "--profiles", str(profiles), "--seconds", "30"]
    assert main(asked) == 0
    assert "slice 1.25 ms" in capsys.readouterr().out


def test_from_a_run_to_a_scored_prediction(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole way with nothing but a run: prediction file, profiles that can be shared, score, pictures."""
    file, shared, out = tmp_path / "p.json", tmp_path / "shared", tmp_path / "out"
    assert main(["predict", "--from-run", str(run), *ASSUMED, "--out", str(file), "--save-profiles", str(shared)]) == 0
    text = capsys.readouterr().out
    assert "fft+gemm" in text
    assert "not a GPU" in text
    assert "not calibrated" in text
    assert main(["validate", str(file), str(run), "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["errors"]["response"]["prediction"]["p99"]["n"] == 2
    assert {path.name for path in (out / "plots").iterdir()} == {
        f"prediction{theme}.{kind}" for theme in ("", "-dark") for kind in ("svg", "png")
    }
    assert json.loads((out / "validation.json").read_bytes()) == found
    # The shared profiles predict what the run itself predicts.
    own, from_files = (
        _json(["predict", "fft+gemm", *given, *ASSUMED, "--seconds", "30"], capsys)
        for given in (("--from-run", str(run)), ("--profiles", str(shared)))
    )
    assert own["mixes"] == from_files["mixes"]


def _json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main([*arguments, "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_mixes_are_named_or_all_of_them(profiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One name twice, a number of one kind, every pair."""
    base = ["predict", "--profiles", str(profiles), *ASSUMED, "--seconds", "10"]

    def names(*mix: str) -> list[str]:
        return [found["name"] for found in _json([*base, *mix], capsys)["mixes"]]  # type: ignore[attr-defined]

    assert names() == ["fft+gemm"]
    assert names("fft*2+gemm", "gemm+fft") == ["fft+fft-2+gemm", "gemm+fft"]
    assert names("--all-mixes") == ["fft+gemm"]


def test_a_fingerprint_file_and_deadlines(profiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else what a probe measured could not be used, nor a promise be asked about."""
    mark = tmp_path / "mark.json"
    mark.write_bytes(encode(fingerprint()))
    given = ["--profiles", str(profiles), "--fingerprint", str(mark), "--seconds", "10"]
    found = _json(["predict", *given, "--deadline", "fft=5", "--model-error", "0.05"], capsys)
    nothing = {"kinds": {}, "solo": {}, "host": 0.0, "host_block": 0.0, "program_host": 0.0}
    assert found["model_error"] == {"relative": 0.05, "source": "given", "how": "", **nothing}
    fft = found["mixes"][0]["tenants"]["fft"]  # type: ignore[index]
    assert fft["deadline_ms"] == 5
    assert 0 < fft["missed"]["value"] < 1


def test_what_if_answers_each_option(profiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One block per question, as it is first."""
    options = ["--slice", "1", "--add", "gemm", "--rate", "0.5", "--rate", "fft=0.5", "--faster", "2"]
    found = _json(["whatif", "--profiles", str(profiles), *ASSUMED, "--seconds", "10", *options], capsys)
    labels = [answer["label"] for answer in found["answers"]]  # type: ignore[attr-defined]
    assert labels == [
        "as it is",
        "slice 1 ms",
        "one more gemm",
        "0.5 times the rate",
        "0.5 times the rate of fft",
        "GPU 2 times as fast",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict", *ASSUMED], 2, "no profiles"),
        (["predict", "--profiles", "PROFILES"], 2, "No fingerprint of it is kept here"),
        (["predict", "--profiles", "PROFILES", "--assume", "2,1"], 2, "not three numbers"),
        (["predict", "--profiles", "PROFILES", "--assume", "0,1,1"], 2, "a slice is above 0"),
        (["predict", "--profiles", "PROFILES", "--assume", "nan,1,1"], 2, "a slice is above 0"),
        (["predict", "--profiles", "PROFILES", "--assume", "2,nan,1"], 2, "a slice is above 0"),
        (["predict", "fft+lstm", "--profiles", "PROFILES", *ASSUMED], 2, "no profile of 'lstm'"),
        (["predict", "fft*0", "--profiles", "PROFILES", *ASSUMED], 2, "no name with a number"),
        (["predict", "fft", "--all-mixes", "--profiles", "PROFILES", *ASSUMED], 2, "mixes and --all-mixes"),
        (["predict", "--profiles", "PROFILES", "--profiles", "PROFILES", *ASSUMED], 2, "two profiles of fft"),
        (["predict", "--profiles", "PROFILES", *ASSUMED, "--deadline", "fft"], 2, "not NAME=NUMBER"),
        (["predict", "--profiles", "PROFILES", *ASSUMED, "--deadline", "fft=-1"], 2, "not a number above 0"),
        (["predict", "--profiles", "nowhere.json", *ASSUMED], 6, "nowhere.json"),
        (["predict", "--profiles", "EMPTY", *ASSUMED], 6, "no *.profile.json"),
        (["predict", "--profiles", "PROFILES", "--fingerprint", "PROFILES/fft.profile.json"], 6, "not a fingerprint"),
        (["whatif", "--profiles", "PROFILES", *ASSUMED], 2, "what if what"),
        (["whatif", "--profiles", "PROFILES", *ASSUMED, "--add", "lstm"], 2, "no profile of 'lstm'"),
        (["whatif", "--profiles", "PROFILES", *ASSUMED, "--rate", "gemm=90"], 7, "back to back"),
        (["validate", "nowhere.json", "RUN"], 6, "nowhere.json"),
        (["validate", "PROFILES/fft.profile.json", "RUN"], 6, "not a prediction"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str], code: int, message: str, places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """An error line with its exit code, and no traceback."""
    given = []
    for argument in arguments:
        head, slash, rest = argument.partition("/")
        given.append(places[head] + slash + rest if head in places else argument)
    assert main(given) == code
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert message in text


def test_the_picture_says_in_words_what_it_shows(run: Path, tmp_path: Path) -> None:
    """Else those who cannot see it would not have the figures."""
    from kts.physics.files import decode_prediction
    from kts.physics.validate import score
    from kts.store import open_run

    file = tmp_path / "p.json"
    assert main(["predict", "--from-run", str(run), *ASSUMED, "--out", str(file)]) == 0
    (drawn,) = draw_score(score(decode_prediction(file.read_bytes(), "p"), open_run(run)), "CPU core 0, not a GPU", "0")
    assert "fft in fft+gemm: p50 predicted" in drawn.alt
    assert "not a GPU" in drawn.svg
    assert 'role="img"' in drawn.svg


@pytest.mark.parametrize(
    ("clock", "figure", "name"),
    [
        ("response", "p999", "p99.9"),
        ("response", "mean", "mean"),
        ("df", "p999", "DF99.9"),
        ("df", "p99", "DF99"),
        ("device_df", "mean", "DF of the mean"),
    ],
)
def test_figures_have_the_names_that_people_use(clock: str, figure: str, name: str) -> None:
    """Else a ratio would read as a time."""
    assert figure_name(clock, figure) == name


def test_very_many_tenants_are_dots_and_not_rows(run: Path, tmp_path: Path) -> None:
    """Else the picture of a hundred tenants is longer than anybody reads, and of several megabytes."""
    from kts.physics.files import decode_prediction
    from kts.physics.validate import score
    from kts.store import open_run

    file = tmp_path / "p.json"
    assert main(["predict", "--from-run", str(run), *ASSUMED, "--out", str(file)]) == 0
    found = score(decode_prediction(file.read_bytes(), "p"), open_run(run))
    many = msgspec.structs.replace(found, tenants=found.tenants * 25)
    (drawn,) = draw_score(many, "CPU core 0, not a GPU", "0")
    assert "outside" in drawn.svg
    assert "fft in fft+gemm" not in "".join(re.findall(r"<text[^>]*>([^<]*)", drawn.svg))
    assert "fft in fft+gemm: p50 predicted" in drawn.alt
    assert len(dict(drawn.files)["prediction.png"]) < 1_000_000


def test_profiles_and_a_run_together(
    run: Path, profiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Launches from the profiles, the host's speed from the run's solo blocks, mixes in the order of opening, bands for
    runs as long as this one."""
    from kts.physics.files import decode_prediction
    from kts.physics.recorded import mix_seconds
    from kts.store import open_run

    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    opened = [json.dumps({"kind": "opened", "tenant": name}) for name in ("gemm", "fft")]
    (copy / "events.jsonl").write_text("\n".join(opened), encoding="utf-8")
    file, shared = tmp_path / "p.json", tmp_path / "shared"
    options = ("--out", str(file), "--save-profiles", str(shared), *ASSUMED)
    assert main(["predict", "--profiles", str(profiles), "--from-run", str(copy), *options]) == 0
    made = decode_prediction(file.read_bytes(), "p")
    assert made.order_known
    assert [mix.name for mix in made.mixes] == ["gemm+fft"]
    assert {used.arrivals.think_ms for used in made.profiles.values()} != {10.0}  # the run's, not the profiles'
    assert made.mixes[0].seconds == pytest.approx(max(mix_seconds(open_run(copy)).values()), abs=0.05)
    texts = [(shared / f"{name}.profile.json").read_text(encoding="utf-8") for name in ("fft", "gemm")]
    assert all("newer iterations alone" in text for text in texts)
    assert main(["predict", "--profiles", str(profiles), "fft+gemm", "--out", str(file), *ASSUMED]) == 0
    assert not decode_prediction(file.read_bytes(), "p").order_known
    assert main(["predict", "--profiles", str(profiles), "fft+gemm", "--in-order", "--out", str(file), *ASSUMED]) == 0
    assert decode_prediction(file.read_bytes(), "p").order_known
    assert "model error" in capsys.readouterr().out


def test_a_profile_of_another_size_is_not_taken_for_the_runs_tenant(
    run: Path, profiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else launches of one problem are given the host times of another, and nobody sees it."""
    from kts.store import open_run

    size = open_run(run).info.plan.tenant("fft").work.size
    assert size is not None
    other = msgspec.structs.replace(profile("fft", 3.6, n=50), size=size + 1)
    (profiles / "fft.profile.json").write_bytes(encode(other))
    assert main(["predict", "--profiles", str(profiles), "--from-run", str(run), *ASSUMED]) == 2
    assert f"of size {size + 1}, fft in the run of {size}" in capsys.readouterr().err
