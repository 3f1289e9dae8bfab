"""A prediction whose hash was published before its run: the whole way, as its author and as its reader go it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from tests.helpers_cli import errors, kts, kts_here, record
from tests.helpers_physics import fingerprint, profile

from kts.files import encode

pytestmark = pytest.mark.e2e


def test_sealed_predicted_run_and_checked(tmp_path: Path) -> None:
    """Else "nothing was fitted" is a claim that nobody can check."""
    (tmp_path / "fingerprint.json").write_bytes(encode(fingerprint()))
    (tmp_path / "profiles").mkdir()
    for name in ("fft", "gemm"):
        (tmp_path / "profiles" / f"{name}.profile.json").write_bytes(encode(profile(name, 1.0, n=50)))
    inputs = ("--profiles", "profiles", "--fingerprint", "fingerprint.json", "--seconds", "5")
    assert "--out" in kts("predict", *inputs, "--seal", cwd=tmp_path).stderr
    early = record(tmp_path / "early")
    made = kts("predict", *inputs, "--out", "p.json", "--seal", cwd=tmp_path)
    assert made.returncode == 0, errors(made)
    published = hashlib.sha256((tmp_path / "p.json").read_bytes()).hexdigest()
    assert f"sealed: {published}" in made.stderr
    assert (tmp_path / "p.json.sha256").read_text(encoding="ascii") == f"{published}  p.json\n"
    late = record(tmp_path / "late")

    found = json.loads((tmp_path / "p.json").read_bytes())
    for one in found["provenance"]["made_from"]:
        place = "fingerprint.json" if one["kind"] == "fingerprint" else f"profiles/{one['name']}.profile.json"
        assert one["sha256"] == hashlib.sha256((tmp_path / place).read_bytes()).hexdigest()
    assert [one["kind"] for one in found["provenance"]["made_from"]] == ["fingerprint", "profile", "profile"]

    for given in (published, "p.json.sha256"):
        checked = kts_here("validate", "p.json", late, "--sealed", given, "--json", cwd=tmp_path)
        assert checked.returncode == 0, errors(checked)
        assert json.loads(checked.stdout)["seal"]["sealed"] is True
        assert "Sealed before the run" in " ".join(checked.stderr.split())
    plain = kts_here("validate", "p.json", late, cwd=tmp_path)
    assert plain.returncode == 0
    assert "NOT sealed: no published hash" in " ".join(plain.stdout.split())
    after = kts_here("validate", "p.json", early, "--sealed", published, cwd=tmp_path)
    assert after.returncode == 7
    assert "after the run had begun" in errors(after)[0]
    (tmp_path / "p.json").write_bytes((tmp_path / "p.json").read_bytes().replace(b'"seed": 0', b'"seed": 1'))
    changed = kts_here("validate", "p.json", late, "--sealed", published, cwd=tmp_path)
    assert changed.returncode == 7
    assert "the one given" in errors(changed)[0]
    assert kts_here("validate", "p.json", late, "--sealed", "nonsense", cwd=tmp_path).returncode == 2


def test_a_prediction_from_the_run_itself_is_never_sealed(tmp_path: Path) -> None:
    """Its solo blocks are part of the run: who has them may have seen the rest."""
    directory = record(tmp_path / "run")
    made = kts_here(
        "predict", "--from-run", directory, "--assume", "2,0.18,0.1", "--out", "p.json", "--seal", cwd=tmp_path
    )
    assert made.returncode == 0, errors(made)
    checked = kts_here("validate", "p.json", directory, "--sealed", "p.json.sha256", cwd=tmp_path)
    assert checked.returncode == 7
    assert "from this very run" in errors(checked)[0]
    saved = tmp_path / "shared"
    assert (
        kts_here("predict", "--from-run", directory, "--assume", "2,0.18,0.1", "--save-profiles", saved).returncode == 0
    )
    profile_made = json.loads((saved / "fft.profile.json").read_bytes())
    assert [one["name"] for one in profile_made["provenance"]["made_from"]] == ["run/run.json", "run/records.parquet"]
    assert profile_made["created_ns"] > 0


def test_the_report_says_which_kts_measured(tmp_path: Path) -> None:
    """Else a reader of results.md would have to open run.json."""
    directory = record(tmp_path / "run")
    shown = kts_here("report", directory, "--no-figures")
    assert shown.returncode == 0, errors(shown)
    provenance = json.loads((directory / "run.json").read_bytes())["provenance"]
    told = provenance["commit"] or provenance["sources"]
    for text in (shown.stdout, *((directory / name).read_text() for name in ("results.md", "report.html"))):
        assert told[:12] in text
    assert json.loads((directory / "summary.json").read_bytes())["provenance"] == provenance
