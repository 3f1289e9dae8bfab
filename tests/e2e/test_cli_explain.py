"""`kts explain` as a user calls it, of a run of the published pair on an H200 that is in the repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.helpers_cli import kts, kts_here

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "examples"
RUN = str(EXAMPLES / "results" / "h200-fast-7")
SHARING = ("--fingerprint", str(EXAMPLES / "fingerprints" / "h200-2.json"))


def test_it_says_why_what_happened_and_what_would_change_it(tmp_path: Path) -> None:
    """The main path, with everything that the run's own data allow."""
    done = kts("explain", RUN, "--tenant", "fft", "--worst", "3", *SHARING, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "fft's p99 grew by 4.44 ms, from 4.09 to 8.53 ms: " in text
    assert "wait before its first turn (all of it gemm's)" in text
    assert "fft: its 3 slowest iterations" in text
    assert "gemm moved away 4.10 (4.00-4.19) predicted" in text
    assert {path.name for path in tmp_path.iterdir()} == {"explain.html", "explain.md", "plots"}


def test_json_is_all_of_it() -> None:
    """For programs: nothing else is on stdout."""
    done = kts_here("explain", RUN, "--worst", "1", "--json")
    told = json.loads(done.stdout)
    assert [one["tenant"] for one in told["tenants"]] == ["fft", "gemm"]
    for one in told["tenants"]:
        for of in one["causes"]["of"]:
            assert sum(part["ms"] for part in of["parts"]) == pytest.approx(of["added_ms"], abs=1e-6)
    assert "its 1 slowest iterations" in done.stderr


def test_readme_tells_what_the_run_says() -> None:
    """Its paragraph, and the picture beside it, are of this run."""
    told = kts_here(
        "explain", str(EXAMPLES / "results" / "h200-fast-4"), "--tenant", "fft", "--worst", "0", "--json"
    ).stdout
    (p99,) = (of for of in json.loads(told)["tenants"][0]["causes"]["of"] if of["statistic"] == "p99")
    parts = {part["cause"]: part for part in p99["parts"]}
    assert p99["added_ms"] == pytest.approx(4.4, abs=0.05)
    assert parts["turns"]["ms"] == pytest.approx(2.5, abs=0.1)
    assert parts["first-turn"]["ms"] == pytest.approx(2.2, abs=0.1)
    assert parts["back-to-back"]["ms"] == pytest.approx(-0.1, abs=0.05)
    assert set(parts["turns"]["by"]) == {"gemm"}


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (("--tenant", "nobody"), 2, "no tenant 'nobody'"),
        (("--mix", "fft+bert"), 2, "no mix 'fft+bert'"),
        (("--worst", "99"), 2, "--worst"),
        (("--fingerprint", "none.json"), 6, "none.json"),
        (("--assume", "2"), 2, "three numbers"),
    ],
)
def test_what_is_not_there_is_named_and_the_exit_code_says_whose_mistake_it_is(
    options: tuple[str, ...], code: int, told: str
) -> None:
    done = kts_here("explain", RUN, *options)
    assert (done.returncode, told in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_directory_that_is_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    done = kts_here("explain", str(tmp_path))
    assert done.returncode == 6, done.stderr
    assert "Traceback" not in done.stderr
