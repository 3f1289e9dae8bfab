"""The check of the whole way: if these fail, `kts selfcheck` could pass a schedule or an analysis that is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kts.app.selfchecks import checked
from kts.cli.main import main
from kts.model.plan import Block, Plan
from kts.physics import rehearsal, synthetic
from kts.physics.rehearsal import Finding, Played, as_records, measured, outcome_of, play, rehearse, stream
from kts.physics.selfcheck import Truth, judge, truth
from kts.physics.simulate import simulate
from kts.physics.synthetic import PAIRS, SHARING, SyntheticKernel, TenantPair
from kts.plan import block_seed, blocks_of_round

RARE = next(pair for pair in PAIRS if pair.name == "fft, gemm every 5 s")
OFTEN = next(pair for pair in PAIRS if pair.name == "fft, gemm every 0.15 s")


def common_start(pair: TenantPair, plan: Plan, block: Block, opened_ns: int) -> Played:
    """A schedule that is wrong: all begin each block at the same instant, and it ends with the last quota."""
    tenants = [plan.tenant(name) for name in block.tenants]
    quotas = [block.quotas[t.name].iterations or 0 for t in tenants]
    horizon_ms = 2 * max(m * pair.cycle_ms(t) for m, t in zip(quotas, tenants, strict=True))
    seeds = [block_seed(plan, block, t.name) for t in tenants]
    streams = [stream(t, pair.kernels[t.name], s, until_ms=horizon_ms) for t, s in zip(tenants, seeds, strict=True)]
    done = simulate(streams, SHARING, horizon_ms=horizon_ms).tenants
    until_ms = max(float(d.retire_ms[m - 1]) for d, m in zip(done, quotas, strict=True))
    records = {t.name: as_records(d, opened_ns, until_ms=until_ms) for t, d in zip(tenants, done, strict=True)}
    return Played(outcome_of(block, records, None), records)


def test_a_common_start_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The check must see what it was made for: with 80 iterations a block the forced collision is 1.25 % of them, and
    a true DF99 of 1.03 is reported as 1.6."""
    monkeypatch.setattr(synthetic, "PAIRS", (RARE,))
    monkeypatch.setattr(rehearsal, "play", common_start)
    assert main(["selfcheck", "--simulated", "--quick", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["passed"]
    fft = next(tenant for tenant in found["tenants"] if tenant["tenant"] == "fft")
    assert fft["truth"]["df99"] == pytest.approx(1.027, abs=0.01)
    assert fft["median"] == pytest.approx(1.63, abs=0.05)
    assert fft["kinds"] == {"worse": fft["repetitions"]}
    assert fft["cautioned"] == fft["repetitions"]
    states = {check["name"]: check["state"] for check in fft["checks"]}
    assert {name for name, state in states.items() if state == "failed"} == {"median", "coverage", "first-of-block"}


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_every_block_holds_its_quotas(pair: TenantPair) -> None:
    """Else the simulated runs would be shorter than real ones, or a block would never end."""
    plan = pair.plan(1)
    for block in blocks_of_round(plan, 0):
        played = play(pair, plan, block, 10**9)
        assert played.outcome.window_ns is not None
        opened, closed = played.outcome.window_ns
        assert opened == 10**9
        for name, rows in played.records.items():
            counts = (rows["submit_ns"] >= opened) & (rows["submit_ns"] <= closed)
            counts[:1] = False
            assert counts.sum() >= (block.quotas[name].iterations or 0)
            assert rows["submit_ns"][-1] <= closed < rows["submit_ns"][-1] + 20 * 10**9
            assert (rows["submit_ns"][1:] >= rows["retire_ns"][:-1]).all()


def test_a_window_holds_as_much_of_a_tenant_as_it_is_long() -> None:
    """A window that ends with a submission holds one cycle less than iterations: neighbours would seem to come more
    often than they do."""
    plan = RARE.plan(3)
    submissions, seconds = 0, 0.0
    for number in range(400):
        block = next(b for b in blocks_of_round(plan, number) if b.condition == "solo-gemm")
        played = play(RARE, plan, block, 0)
        assert played.outcome.window_ns is not None
        opened, closed = played.outcome.window_ns
        submit_ns = played.records["gemm"]["submit_ns"]
        submissions += int(((submit_ns >= opened) & (submit_ns <= closed)).sum())
        seconds += (closed - opened) / 1e9
    cycle_s = RARE.cycle_ms(plan.tenant("gemm")) / 1e3
    assert submissions * cycle_s / seconds == pytest.approx(1.0, abs=0.02)


def test_the_same_seed_gives_the_same_run() -> None:
    """Else a failure could not be looked into."""
    assert rehearse(OFTEN, 5) == rehearse(OFTEN, 5)
    assert rehearse(OFTEN, 5) != rehearse(OFTEN, 6)


def test_more_draws_begin_with_the_same_ones() -> None:
    """A block that took longer than foreseen is simulated anew: with other draws long blocks would be lost."""
    kernel = SyntheticKernel(3.0, hiccups=0.5)
    few, many = (kernel.draw(n, np.random.default_rng(1)).duration_ms for n in (50, 500))
    np.testing.assert_array_equal(few, many[:50])


def test_a_kernel_takes_as_long_as_it_says() -> None:
    """Else tenants would begin in a phase that is not theirs."""
    kernel = SyntheticKernel(3.0, spread=0.1, hiccups=0.2, hiccup_ms=1.0)
    drawn = kernel.draw(100_000, np.random.default_rng(1))
    whole_ms = drawn.offset_ms + drawn.duration_ms + drawn.retire_ms
    assert whole_ms.mean() == pytest.approx(kernel.service_ms, rel=0.003)


def test_the_run_goes_on_until_the_rule_is_content() -> None:
    """Else the figures would be those of other runs than users make."""
    assert OFTEN.plan(1).rounds <= len(measured(OFTEN, 1).blocks) // 3 < OFTEN.plan(1).max_rounds
    assert len(measured(RARE, 1).blocks) // 3 == RARE.plan(1).max_rounds  # gemm never has a p99


def test_truth_is_what_the_simulator_gives_in_the_long_run() -> None:
    """Halves of a long simulation must agree, and the share of collisions be what geometry says."""
    a, b = (truth(RARE, seed, 200_000)["fft"] for seed in (1, 2))
    assert a.df99 == pytest.approx(b.df99, rel=0.01)
    assert a.met == pytest.approx((20.7 + 3.6 + 2.1) / 5020.7, rel=0.1)


def _finding(df99: float, *, width: float = 0.05, kind: str = "worse", first: int = 0) -> Finding:
    return Finding(df99, df99 * (1 - width), df99 * (1 + width), kind, 10, 800, first, 0.1, False)


def _states(true: Truth, runs: list[Finding]) -> dict[str, str]:
    (one,) = judge(RARE, {"fft": true}, [{"fft": run} for run in runs])
    return {check.name: check.state for check in one.checks}


SMOOTH = Truth(df99=1.5, df99_low=1.49, df99_high=1.51, met=0.02, n=10**6)
CLIFF = Truth(df99=1.2, df99_low=1.05, df99_high=1.6, met=0.01, n=10**6)
SPREAD = [1.5 * (1 + 0.02 * np.sin(k)) for k in range(95)]


def test_good_figures_pass() -> None:
    good = [_finding(df) for df in SPREAD] + [_finding(1.7), _finding(1.3)] * 2
    assert _states(SMOOTH, good) == dict.fromkeys(("median", "coverage", "first-of-block", "no-change"), "passed")


@pytest.mark.parametrize(
    ("runs", "failing"),
    [
        ([_finding(df * 1.05) for df in SPREAD], {"median", "coverage"}),
        ([_finding(df, width=0.005) for df in SPREAD], {"coverage"}),
        ([_finding(df, width=0.5) for df in SPREAD * 4], {"coverage"}),
        ([_finding(df, first=1) for df in SPREAD], {"first-of-block"}),
        ([_finding(df, kind="no-change") for df in SPREAD], {"no-change"}),
    ],
)
def test_each_bar_can_fail(runs: list[Finding], failing: set[str]) -> None:
    """A check that cannot fail shows nothing."""
    assert {name for name, state in _states(SMOOTH, runs).items() if state == "failed"} >= failing


def test_on_a_cliff_the_median_may_be_that_of_a_tail_a_tenth_off() -> None:
    """There p99 jumps between two modes, and no estimator of 800 iterations stays within 3 %; coverage still must."""
    assert _states(CLIFF, [_finding(1.55, width=0.3)] * 95 + [_finding(2.0)] * 5)["median"] == "passed"
    assert _states(CLIFF, [_finding(1.8, width=0.4)] * 100)["median"] == "failed"
    assert _states(CLIFF, [_finding(1.55)] * 100)["coverage"] == "failed"
    assert CLIFF.on_cliff
    assert not SMOOTH.on_cliff


def test_a_tenant_that_is_refused_is_not_judged() -> None:
    """Else the few runs that happened to have enough iterations would stand for all."""
    none = Finding(None, None, None, "refused", 10, 40, 0, 0.1, False)
    states = _states(SMOOTH, [none] * 60 + [_finding(9.0)] * 40)
    assert {states[name] for name in ("median", "coverage", "no-change")} == {"not-applicable"}


def test_pairs_meet_as_seldom_as_is_asked() -> None:
    """Natural collision rates of 0.2 to 2 % are where a forced one matters."""
    met = [truth(pair, 1, 50_000)["fft"].met for pair in PAIRS[:6]]
    assert met == sorted(met)
    assert met[0] == pytest.approx(0.002, rel=0.2)
    assert met[-1] == pytest.approx(0.02, rel=0.2)


def test_processes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the table in the docs would depend on the machine that made it."""
    monkeypatch.setattr("kts.app.selfchecks.SHORT", 20_000)
    assert list(checked([RARE], range(1, 3), True, 1)) == list(checked([RARE], range(1, 3), True, 2))
