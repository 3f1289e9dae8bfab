"""If these fail, `kts check` lets a broken SLO pass, or fails a build for noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from junitparser import Failure, JUnitXml, Skipped
from msgspec.structs import replace
from tests.helpers_cli import record
from tests.helpers_stats import Array, FakeRun, make_plan, make_run
from tests.unit.test_stats_comparison import estimate, summary

from kts import files
from kts.cli.main import main
from kts.errors import UsageError
from kts.model.checks import Check
from kts.model.gate import Criterion, Gate
from kts.model.plan import Slo
from kts.model.summary import Estimate, Summary
from kts.report.junit import as_junit
from kts.stats import analyse
from kts.stats.gate import FALSE_FAIL, against_old, against_slos, gate_of, more_s


def shared_run(factor: float = 1.0, iterations: int = 200, slo: Slo = Slo()) -> FakeRun:  # noqa: B008 - frozen
    """Two tenants whose shared times are lognormal around 4 ms times ``factor``."""

    def latencies(tenant: str, side: str, number: int) -> tuple[Array, None]:
        rng = np.random.default_rng([number, len(tenant), len(side)])
        return rng.lognormal(0, 0.02, iterations) * 4.0 * (factor if side == "shared" else 1.0), None

    return make_run(make_plan(slo=slo), latencies)


def slos(run: FakeRun, **limits_ms: float) -> Gate:
    return against_slos(
        analyse(run).summary,
        lambda confidence: analyse(run, confidence=confidence).summary,
        {(name, "p99"): limit for name, limit in limits_ms.items()},
        measured_s=100.0,
    )


# SLOs of one run


def test_a_tail_within_its_slo_passes_one_beyond_fails_and_one_at_it_is_left_open() -> None:
    run = shared_run()
    p99 = analyse(run).summary.tenants["fft"].response.shared.p99.estimate or 0.0
    assert slos(run, fft=p99 * 1.1).judgement == "pass"
    assert slos(run, fft=p99 * 0.9).judgement == "fail"
    at_it = slos(run, fft=p99 * 1.0001)
    assert at_it.judgement == "inconclusive"
    assert at_it.criteria[0].why == "the interval holds the limit"


def test_a_fail_needs_more_confidence_than_the_reported_interval_has() -> None:
    """Else one build in forty that just keeps its SLO would fail, and more of them with every tenant."""
    run = shared_run()
    sure = 1 - FALSE_FAIL
    wide, narrow = (analyse(run, confidence=c).summary.tenants["fft"].response.shared.p99 for c in (sure, 0.95))
    assert wide.lo is not None
    assert narrow.lo is not None
    assert wide.lo < narrow.lo
    between = slos(run, fft=(wide.lo + narrow.lo) / 2)
    assert between.judgement == "inconclusive"
    assert between.criteria[0].why == "beyond its limit, but not at 99 %"
    assert slos(run, fft=wide.lo * 0.9999).judgement == "fail"


def test_too_few_iterations_decide_nothing_and_one_undecided_tenant_keeps_the_gate_open() -> None:
    few = slos(shared_run(iterations=20), fft=1.0)
    assert (few.judgement, few.criteria[0].why) == ("inconclusive", "p99 needs 368 iterations, have 200")
    assert few.more_s == pytest.approx(84)  # of 100 s
    run = shared_run()
    p99 = analyse(run).summary.tenants["gemm"].response.shared.p99.estimate or 0.0
    assert slos(run, fft=100.0, gemm=p99).judgement == "inconclusive"
    assert slos(run, fft=1.0, gemm=p99).judgement == "fail"


def test_a_tenant_without_a_steady_state_decides_nothing() -> None:
    """Else a start that never ended would fail, or keep, a promise about the steady state."""
    run = analyse(shared_run()).summary
    verdict = replace(run.tenants["fft"].verdict, kind="not-steady", sentence="fft: not steady: why")
    unsteady = replace(run, tenants={**run.tenants, "fft": replace(run.tenants["fft"], verdict=verdict)})
    found = against_slos(unsteady, lambda _: unsteady, {("fft", "p99"): 100.0})
    assert (found.judgement, found.criteria[0].why) == ("inconclusive", "fft: not steady: why")
    assert against_old([unsteady], [run]).criteria[0].judgement == "inconclusive"


def test_a_figure_that_may_be_off_by_more_than_its_margin_decides_nothing() -> None:
    """Else an uninvited neighbour's 30 % would fail whoever shared the GPU with it."""
    run = analyse(shared_run()).summary
    p99 = run.tenants["fft"].response.shared.p99.estimate or 0.0
    met = Check(code="no-neighbour", outcome="failed", figure="1", text="Somebody was there.", off=0.3)
    doubted = replace(run, checks=(met,))

    def judged(of: Summary, limit_ms: float) -> Gate:
        return against_slos(of, lambda _: of, {("fft", "p99"): limit_ms})

    assert judged(run, p99 * 1.2).judgement == "pass"
    assert judged(doubted, p99 * 1.2).criteria[0].why.startswith("Somebody was there. The figure may be off by 30 %")
    assert judged(doubted, p99 * 1.5).judgement == "pass"
    apart = replace(met, code="clock-alignment", off=None, lowers=True, text="Clocks differ.")
    assert judged(replace(run, checks=(apart,)), p99 * 9).criteria[0].why == "Clocks differ."
    about_solo = replace(met, code="drift")
    assert judged(replace(run, checks=(about_solo,)), p99 * 1.2).judgement == "pass"


def test_a_tenant_that_is_too_slow_alone_is_not_blamed_on_sharing() -> None:
    assert slos(shared_run(factor=1.0), fft=1.0).criteria[0].why == "alone, too: it is not sharing that breaks it"
    assert slos(shared_run(factor=2.0), fft=6.0).criteria[0].why == ""


def test_a_limit_of_a_tenant_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="no figures of such a tenant"):
        slos(shared_run(), other=1.0)


# new runs against old ones


def with_p99(error: float, **ratios: float) -> tuple[list[Summary], list[Summary]]:
    """Old and new: shared p99s that far apart, each with that relative standard error."""
    old, new = (summary(1.0, seed) for seed in (1, 2))

    def changed(run: Summary, name: str, value: float) -> Summary:
        tenant = run.tenants[name]
        shared = replace(tenant.response.shared, p99=estimate(value, error))
        response = replace(tenant.response, shared=shared)
        return replace(run, tenants={**run.tenants, name: replace(tenant, response=response)})

    for name in old.tenants:
        old, new = changed(old, name, 4.0), changed(new, name, 4.0 * ratios.get(name, 1.0))
    return [new], [old]


@pytest.mark.parametrize(
    ("ratio", "error", "said"),
    [
        (1.0, 0.01, "pass"),
        (0.5, 0.01, "pass"),
        (1.2, 0.01, "fail"),
        (1.05, 0.01, "inconclusive"),
        (1.2, 0.1, "inconclusive"),
    ],
)
def test_worse_by_more_than_tolerated_fails_and_better_is_no_fail(ratio: float, error: float, said: str) -> None:
    assert against_old(*with_p99(error, fft=ratio)).criteria[0].judgement == said


def test_more_tenants_raise_no_more_false_alarms() -> None:
    """p of 0.6 % fails one tenant alone; beside another one it does not."""
    new, old = with_p99(0.01, fft=1.05 * np.exp(2.75 * 0.01 * 2**0.5))
    found = against_old(new, old)
    assert (found.criteria[0].judgement, found.judgement) == ("inconclusive", "inconclusive")
    alone = [replace(run, tenants={"fft": run.tenants["fft"]}) for run in (*new, *old)]
    assert against_old(alone[:1], alone[1:]).judgement == "fail"


def test_work_of_another_size_is_judged_by_what_sharing_costs() -> None:
    """Milliseconds of a calibrated kernel change with its size; nobody got worse by that."""
    new, old = with_p99(0.01, fft=2.0)
    fft = replace(new[0].tenants["fft"], size=128)
    found = against_old([replace(new[0], tenants={**new[0].tenants, "fft": fft})], old)
    assert (found.criteria[0].figure, found.criteria[1].figure) == ("DF99", "shared p99")
    assert found.criteria[0].judgement != "fail"


def test_runs_of_other_tenants_are_not_compared() -> None:
    with pytest.raises(UsageError, match="not of the same tenants: fft, gemm against decode, tiny"):
        against_old([summary(1.0, 1)], [summary(1.0, 2, ("decode", "tiny"))])


def test_time_that_would_decide_grows_with_the_square_of_what_is_missing() -> None:
    assert more_s(Estimate(estimate=4.0, lo=3.6, hi=4.4), 4.2, 100.0) == pytest.approx(
        100 * ((np.log(1.1) / np.log(1.05)) ** 2 - 1)
    )
    assert more_s(Estimate(estimate=4.0, lo=3.6, hi=4.4), 4.0001, 100.0) is None
    assert more_s(Estimate(estimate=None, lo=None, hi=None, refused="few"), 4.0, 100.0) is None


# what machines and people are told


def gate(*judgements: str) -> Gate:
    criteria = tuple(
        Criterion(
            tenant=f"t{number}",
            figure="shared p99",
            measured=Estimate(estimate=4.0, lo=3.9, hi=4.1),
            unit="ms",
            limit=4.0,
            judgement=kind,  # type: ignore[arg-type]
        )
        for number, kind in enumerate(judgements)
    )
    return gate_of("slo", criteria, new=("run\x01",), confidence=0.95, measured_s=None, is_gpu=True, notes=())


def test_junit_has_a_case_per_criterion_and_inconclusive_is_skipped() -> None:
    """A reader that counts failures must not count what is not known."""
    xml = JUnitXml.fromstring(as_junit(gate("pass", "fail", "inconclusive")))
    (suite,) = list(xml)
    results = [[type(one) for one in case.result] for case in suite]
    assert results == [[], [Failure], [Skipped]]
    assert (suite.tests, suite.failures, suite.skipped) == (3, 1, 1)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("gate") / "run")


@pytest.mark.parametrize(("limit_ms", "code", "word"), [(1e6, 0, "pass"), (1e-6, 8, "fail")])
def test_the_command_has_a_code_for_each_answer(  # noqa: PLR0917
    recorded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    limit_ms: float,
    code: int,
    word: str,
) -> None:
    """And a workflow on GitHub shows the result without being asked to."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "steps.md"))
    (tmp_path / "steps.md").write_text("# before\n")
    asked = ["check", str(recorded), "--slo", f"gemm.p50={limit_ms}", "--junit", str(tmp_path / "junit.xml"), "--json"]
    assert main(asked) == code
    assert json.loads(capsys.readouterr().out)["judgement"] == word
    steps = (tmp_path / "steps.md").read_text()
    assert steps.startswith("# before\n# kts check: ")
    assert f"{word}: gemm" in steps
    assert JUnitXml.fromfile(str(tmp_path / "junit.xml")).tests == 1


def test_an_undecided_gate_has_a_code_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new, old = with_p99(0.1)
    for name, run in (("new", new[0]), ("old", old[0])):
        (tmp_path / f"{name}.json").write_bytes(files.encode(run))
    assert main(["check", str(tmp_path / "new.json"), "--against", str(tmp_path / "old.json")]) == 9
    assert "inconclusive: fft, gemm: not decided" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        ([], 2, "which run shall be checked?"),
        (["RUN"], 2, "no tenant of this run has an SLO"),
        (["RUN", "--slo", "fft.p99"], 2, "must be TENANT.p99=MS"),
        (["RUN", "--slo", "fft.p98=3"], 2, "must be TENANT.p99, .p50, .p95 or .p99.9"),
        (["RUN", "--slo", "fft.p99=-1"], 2, "no number of milliseconds above 0"),
        (["RUN", "--slo", "nobody.p99=1"], 2, "no figures of such a tenant"),
        (["RUN", "--slo", "fft.p99=1", "--tolerance", "0.1"], 2, "--tolerance is for --against and --pair"),
        (["RUN", "--out", "x"], 2, "are for a pair"),
        (["SUMMARY", "--slo", "fft.p99=1"], 2, "SLOs need the records of a run"),
        (["RUN", "RUN"], 2, "SLOs are checked of one run, not of 2"),
        (["NOWHERE"], 6, "no such directory"),
        (["RUN", "--against", "NOWHERE"], 6, "no such directory"),
        (["RUN", "--slo", "fft.p99=1", "--junit", "NOWHERE/x/y.xml"], 4, "cannot write"),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_never_reads_as_a_fail(  # noqa: PLR0917
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, what: str
) -> None:
    (tmp_path / "file").touch()
    places = {
        "RUN": str(recorded),
        "SUMMARY": str(tmp_path / "summary.json"),
        "NOWHERE": str(tmp_path / "nowhere"),
        "NOWHERE/x/y.xml": str(tmp_path / "file" / "y"),
    }
    assert main(["check", *(places.get(word, word) for word in arguments)]) == code
    said = capsys.readouterr().err
    assert what in said
    assert "Traceback" not in said
