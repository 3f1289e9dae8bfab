"""If these fail, `kts explain` tells something else than the run, or claims to foresee what the model cannot say."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from tests.helpers_causes import HOUSE, LONG, of_fft
from tests.helpers_report import terminal_text
from tests.helpers_stats import Array, FakeRun, make_plan, make_run

import kts
from kts.app import explanations
from kts.app.handle import Run
from kts.errors import DataError, UsageError
from kts.model.plan import Program
from kts.model.records import NOT_TOLD, record_dtype
from kts.model.run import BlockOutcome, ThreadWait
from kts.model.summary import Estimate
from kts.physics.forecast import Band
from kts.physics.predict import Effort
from kts.physics.remedies import disagreement
from kts.report.document import Document
from kts.report.explaining import explanation_elements

SHARING = (2.0, 0.18, 0.1)


def alike(tenant: str, side: str, number: int) -> tuple[Array, Array]:
    """800 iterations of about 3 ms, and in company what the model of `SHARING` says, as nearly as a test needs it."""
    rng = np.random.default_rng([number, len(tenant), len(side)])
    device = rng.normal(3.0, 0.05, 800)
    waits = np.where(rng.random(800) < 0.6, rng.uniform(1.0, 3.4, 800), 0.0) if side == "shared" else 0.0
    return device + waits + 0.05, device


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forecasts of a few iterations: what they say is tested elsewhere."""

    class Quick(Effort):
        def __init__(self, **given: float) -> None:
            super().__init__(**{"iterations": 2000, "budget": 20_000, "replicates": 8, **given})  # type: ignore[arg-type]

    monkeypatch.setattr("kts.app.inputs.Effort", Quick)


def measured(plan_names: tuple[str, ...] = ("fft", "gemm"), latencies: object = alike) -> Run:
    """A run in memory."""
    data = make_run(make_plan(plan_names, rounds=4), latencies)  # type: ignore[arg-type]
    return Run(Path("runs/none"), data)


def shown(of: explanations.ExplainedRun, width: int = 120) -> str:
    """In a terminal."""
    return terminal_text(Document(tuple(explanation_elements(of))), width)


def test_it_tells_the_slowest_iterations_of_each_tenant() -> None:
    run = measured()
    of = kts.explain(run, worst=3)
    assert [one.tenant for one in of.tenants] == ["fft", "gemm"]
    for one in of.tenants:
        slowest = sorted(run.latencies_ms(one.tenant, HOUSE))[-3:][::-1]
        assert [moment.response_ms for moment in one.worst] == pytest.approx(slowest)
    text = shown(of)
    assert "fft: its 3 slowest iterations" in text
    assert "▓" in text


def test_without_a_fingerprint_it_says_why_nothing_is_predicted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And tells the rest."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    of = kts.explain(measured())
    assert of.basis is None
    assert "nothing is predicted: how is" in of.unforeseen[0]
    assert "kts probe" in shown(of)
    with pytest.raises(DataError, match="No such file"):
        kts.explain(measured(), profiles=tmp_path / "none.profile.json")


def test_changes_are_predicted_and_named_so() -> None:
    of = kts.explain(measured(), assume=SHARING)
    agreed = [one for one in of.tenants if one.foreseen]
    assert agreed
    for one in agreed:
        assert [each.change for each in one.foreseen][:3] == ["", "slice 1 ms", "slice 4 ms"]
        other = "gemm" if one.tenant == "fft" else "fft"
        away = next(each for each in one.foreseen if each.change == f"{other} moved away")
        assert away.p99.value == pytest.approx(one.alone.p99.estimate, rel=0.05)
    for one in of.tenants:
        assert bool(one.foreseen) != bool(one.unforeseen)
    text = shown(of)
    assert "What would change it: predicted, not measured" in text
    assert "alone on the device (mode exclusive)" in " ".join(shown(of, 200).split())
    assert "MIG, streams, and settings of MPS: not predicted" in " ".join(text.split())


def with_waits(run: Run, wait_ms: float, *, told: bool = True) -> Run:
    """In company every 25th iteration also waits for a core, by its record."""
    assert isinstance(run.data, FakeRun)
    for (tenant, block), rows in run.data.data.items():
        columns = np.zeros(len(rows), record_dtype(("cpu_ns", "cpu_wait_ns")))
        for name in rows.dtype.names or ():
            columns[name] = rows[name]
        slow = (np.arange(len(rows)) % 25 == 0) & ("+" in run.data.blocks[block].condition)
        columns["retire_ns"] += (slow * wait_ms * 1e6).astype(np.int64)
        columns["cpu_wait_ns"] = np.where(slow, wait_ms * 1e6, 0) if told else NOT_TOLD
        run.data.data[tenant, block] = columns
    return run


def test_pinning_is_a_bound_where_the_wait_for_a_core_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of 4 % that wait 6 ms, p99 is; without them it is what the GPU makes. It needs no model."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    usual = kts.explain(measured()).tenants[0].together.p99.estimate
    of = kts.explain(with_waits(measured(), 6.0))
    fft = of.tenants[0]
    assert fft.pinned is not None
    assert fft.together.p99.estimate == pytest.approx((usual or 0) + 6.0, rel=0.2)
    assert fft.pinned.p99.estimate == pytest.approx(usual, rel=0.03)
    assert (fft.pinned.p99.lo or 9) < (fft.pinned.p99.estimate or 0) < (fft.pinned.p99.hi or 0)
    assert fft.pinned.waited_ms == pytest.approx(6.0 / 25, rel=0.05)
    text = " ".join(shown(of, 200).split())
    assert "a core for each thread (pinned): at most" in text
    assert "bound" in text
    assert "nobody measured whether the host waited" not in text


def test_threads_that_waited_for_a_core_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else a reader could not tell the thread that launches from one that nobody waits for."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    run = measured()
    assert isinstance(run.data, FakeRun)

    def told(name: str, tid: int, share: float, block: BlockOutcome) -> ThreadWait:
        return ThreadWait(pid=7, tid=tid, name=name, waited_ns=round(share * (block.end_ns - block.start_ns)))

    def with_threads(block: BlockOutcome) -> BlockOutcome:
        shares = (0.031, 0.004) if "+" in block.condition else (0.002, 0.0)
        threads = tuple(told(*one, block) for one in (("serve", 7, shares[0]), ("pin | \x1b[1m", 9, shares[1])))
        return msgspec.structs.replace(block, waits={"fft": threads})

    run.data.blocks = [with_threads(block) for block in run.data.blocks]
    of = kts.explain(run)
    main, other = of.tenants[0].threads
    assert (main.main, main.together, main.alone) == (True, pytest.approx(0.031), pytest.approx(0.002))
    assert (other.main, other.tid) == (False, 9)
    assert of.tenants[1].threads == ()
    text = " ".join(shown(of, 200).split())
    assert "fft's threads that waited for a core, of the time: serve (main thread, 7) 3.1 %, alone 0.2 %" in text
    assert "(9) 0.4 %, alone 0.0 %" in text
    assert "\x1b" not in text
    assert "gemm's threads" not in text


def test_pinning_is_not_foretold_where_nobody_measured_the_wait(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    of = kts.explain(with_waits(measured(), 6.0, told=False))
    assert {one.pinned for one in of.tenants} == {None}
    text = " ".join(shown(of, 200).split())
    assert "pinning fft, gemm: not predicted: nobody measured" in text
    assert "(pinned)" not in text


def test_where_the_model_does_not_give_what_was_measured_its_answers_are_withheld() -> None:
    """A model that does not know the run knows nothing of its changes."""

    def slower(tenant: str, side: str, number: int) -> tuple[Array, Array]:
        service, device = alike(tenant, side, number)
        return service * (6.0 if side == "shared" else 1.0), device

    of = kts.explain(measured(latencies=slower), assume=SHARING)
    assert [one.foreseen for one in of.tenants] == [(), ()]
    text = " ".join(shown(of).split())
    assert "fft: not predicted: of no change the model says" in text
    assert "moved away" not in text


def test_the_model_and_the_measured_figure_agree_where_their_intervals_meet() -> None:
    band = Band(value=8.6, lo=8.4, hi=8.8)
    assert disagreement(Estimate(estimate=8.3, lo=8.2, hi=8.45), band) == ""
    assert "measured is 8 ms (7.9 to 8.1)" in disagreement(Estimate(estimate=8.0, lo=7.9, hi=8.1), band)
    assert "too few" in disagreement(Estimate(estimate=8.0, lo=7.9, hi=8.1), Band(value=None, lo=None, hi=None))
    assert "p99 is refused: few" in disagreement(Estimate(estimate=None, lo=None, hi=None, refused="few"), band)


def test_a_program_without_a_profile_is_not_predicted() -> None:
    """Single bursts of programs foretell nothing."""
    run = measured()
    tenants = tuple(
        msgspec.structs.replace(one, work=Program(command=("serve",))) if one.name == "fft" else one
        for one in run.info.plan.tenants
    )
    plan = msgspec.structs.replace(run.info.plan, tenants=tenants)
    assert isinstance(run.data, FakeRun)
    run.data.info = msgspec.structs.replace(run.info, plan=plan)
    of = kts.explain(run, tenants=["fft"], assume=SHARING)
    assert of.tenants[0].foreseen == ()
    assert "--profiles" in of.tenants[0].unforeseen


def test_causes_of_the_mix_are_told_and_their_neighbours_asked_first() -> None:
    run = measured(("fft", "gemm", "a", "b", "c"))
    house = run.info.plan.full_house.name
    causes = msgspec.structs.replace(of_fft(), condition=house)
    summary = run.summary
    tenants = {**summary.tenants, "fft": msgspec.structs.replace(summary.tenants["fft"], causes=(causes,))}
    run.analysis.__dict__["summary"] = msgspec.structs.replace(summary, tenants=tenants)
    of = kts.explain(run, tenants=["fft"])
    assert of.tenants[0].causes == causes
    assert explanations._neighbours(of, run.info.plan.full_house)[0] == "gemm"
    assert "fft's p99 grew by 2.10 ms" in " ".join(shown(of).split())


def test_what_is_not_in_the_run_is_a_mistake_and_the_message_says_what_is() -> None:
    run = measured()
    with pytest.raises(UsageError, match="no tenant 'nobody'") as raised:
        kts.explain(run, tenants=["nobody"])
    assert "fft, gemm" in raised.value.remedy
    with pytest.raises(UsageError, match="no mix") as raised:
        kts.explain(run, mix="fft+fft2")
    assert "fft+gemm" in raised.value.remedy
    with pytest.raises(UsageError, match="worst"):
        kts.explain(run, worst=21)
    with pytest.raises(UsageError, match="never ran together"):
        kts.explain(measured(("fft",)))
    empty = measured()
    assert isinstance(empty.data, FakeRun)
    empty.data.blocks = []
    with pytest.raises(DataError):
        kts.explain(empty)


@pytest.mark.parametrize("mix", ["gemm+fft", HOUSE, ["fft", "gemm"]])
def test_a_mix_is_named_by_its_tenants_in_any_order_or_by_its_condition(mix: object) -> None:
    assert kts.explain(measured(), mix=mix, worst=0).condition == HOUSE  # type: ignore[arg-type]


def test_files_have_all_of_it_and_pictures_in_both_themes(tmp_path: Path) -> None:
    run = measured(("fft", LONG))
    lines: list[str] = []
    kts.explain(run, tmp_path, worst=4, say=lines.append)
    page = (tmp_path / "explain.html").read_text()
    assert page.count("<figure><svg") == 3
    assert "not measured" in page
    text = (tmp_path / "explain.md").read_text()
    assert "plots/worst-1-dark.png" in text
    for name in ("causes", "worst-1", "worst-2-dark"):
        ElementTree.parse(tmp_path / "plots" / f"{name}.svg")
    assert f"wrote {tmp_path / 'explain.html'}" in lines


@pytest.mark.parametrize("width", [40, 70, 100, 160])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    of = kts.explain(measured(("fft", LONG)), assume=SHARING)
    assert max(map(len, shown(of, width).splitlines())) <= width


def test_a_notebook_shows_it() -> None:
    text = kts.explain(measured(), worst=1)._repr_markdown_()
    assert "## fft: its 1 slowest iterations" in text
