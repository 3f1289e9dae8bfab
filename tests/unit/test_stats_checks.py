"""Each check fails in a run that has its fault, and passes in one that has not. If not, it is decoration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.helpers_stats import SHARED, Array, FakeRun, make_plan, make_run
from tests.helpers_telemetry import series

from kts.arrivals import Poisson
from kts.model.checks import TITLES, Check
from kts.model.neighbours import Look, Neighbours, Seen
from kts.model.run import ClockPair
from kts.stats import analyse
from kts.stats.checks.cores import listed
from kts.stats.checks.symmetry import unequal
from kts.stats.checks.table import CHECKS

S = 1_000_000_000
MS = 1_000_000
REALTIME_NS = 1_800_000_000 * S
ROUNDS, N = 10, 400

Make = Callable[[], FakeRun]
replace = msgspec.structs.replace


def calm(tenant: str, side: str, number: int) -> tuple[Array, Array]:
    rng = np.random.default_rng([number, len(tenant), len(side)])
    device = rng.lognormal(0, 0.02, N) * 4.0
    return device + 0.1, device


def run(latencies: Any = calm, *, kind: str = "cuda", think_ms: float = 1.0) -> FakeRun:
    """Ten rounds of two tenants, on cores of their own."""
    made = make_run(make_plan(rounds=ROUNDS), latencies, kind=kind, think_ms=think_ms)
    workers = tuple(replace(w, cores=(k + 2,)) for k, w in enumerate(made.info.workers))
    environment = {"kts_cores": "0-1", "cpu_siblings": "0,4 1,5 2,6 3,7"}
    return with_info(made, workers=workers, environment=environment)


def with_info(made: FakeRun, **changes: Any) -> FakeRun:
    made.info = replace(made.info, **changes)
    return made


def with_worker(tenant: str, made: FakeRun | None = None, **changes: Any) -> FakeRun:
    made = made or run()
    return with_info(
        made, workers=tuple(replace(w, **(changes if w.tenant == tenant else {})) for w in made.info.workers)
    )


def with_blocks(made: FakeRun, change: Callable[[int], dict[str, Any]]) -> FakeRun:
    made.blocks = [replace(block, **change(block.index)) for block in made.blocks]
    return with_info(made, blocks=tuple(made.blocks))


# one device


def on_two_gpus() -> FakeRun:
    made = run()
    return with_worker("gemm", made, device=replace(made.info.workers[1].device, uuid="y"))


# one clock


def pairs(apart_ns: int, stepped_ns: int = 0) -> FakeRun:
    """Each worker read both clocks before and after each block; in between the wall clock was set."""

    def clocks(index: int) -> dict[str, Any]:
        del index
        return {
            "clocks": tuple(
                ClockPair(realtime_ns=REALTIME_NS + k * S + step, monotonic_ns=k * S - worker * apart_ns, error_ns=200)
                for worker in range(2)
                for k, step in enumerate((0, stepped_ns))
            )
        }

    return with_blocks(run(), clocks)


# nobody else


def watched(seen: tuple[int, ...], *, slower: float = 1.0) -> FakeRun:
    """Everybody was looked for all the time; somebody was there in the blocks ``seen``, and slowed them down."""

    def latencies(tenant: str, side: str, number: int) -> tuple[Array, Array]:
        service, device = calm(tenant, side, number)
        there = 3 * number + (2 if side == SHARED else 0 if tenant == "fft" else 1) in seen
        return service * (slower if there else 1.0), device

    made = run(latencies)
    pair = ClockPair(realtime_ns=REALTIME_NS, monotonic_ns=0)
    with_blocks(made, lambda _: {"clocks": (pair,)})
    found = Neighbours()
    for block in made.blocks:
        others = (Seen(who="other/x", what="a process"),) if block.index in seen else ()
        for at_ns in range(block.start_ns, block.end_ns, 100 * MS):
            look = Look(by="t", every_ns=MS, at_ns=REALTIME_NS + at_ns, node="n", others=others)
            found = found.after(replace(look, every_ns=100 * MS))
    return with_info(made, neighbours=found)


# records


def damaged() -> FakeRun:
    made = run()
    made.damage = ["records.journal: torn tail of 12 bytes"]
    return made


# steady


def slows_down() -> FakeRun:
    return run(lambda t, s, r: tuple(x * (2.0 if r >= 5 else 1.0) for x in calm(t, s, r)))


# telemetry


def sampled(values: dict[str, Callable[[str], float]], source: str = "nvml", scope: str = "device") -> FakeRun:
    """Each metric with a value by side, every 50 ms."""
    made = run()
    sides = {block.index: SHARED if "+" in block.condition else "solo" for block in made.blocks}
    made.samples = [
        series(
            [
                (at_ns, 50 * MS if scope == "tenant" else 0, value(sides[block.index]))
                for block in made.blocks
                for at_ns in range(block.start_ns + 50 * MS, block.end_ns, 50 * MS)
            ],
            source=source,
            metric=metric,
            scope=scope,
            subject=tenant,
        )
        for metric, value in values.items()
        for tenant in (("fft", "gemm") if scope == "tenant" else ("x",))
    ]
    return made


def waiting(solo: float, shared: float) -> FakeRun:
    return sampled(
        {
            "running_threads": lambda _: 0.5,
            "waiting_threads": lambda side: solo if side == "solo" else shared,
        },
        source="host",
        scope="tenant",
    )


def on_all_cores(shared_wait: float) -> FakeRun:
    made = waiting(0.0, shared_wait)
    return with_info(made, workers=tuple(replace(w, cores=(2, 3, 6, 7)) for w in made.info.workers))


def read_within(cost_ms: float) -> FakeRun:
    """A reading every 97 ms or so, which costs the iteration that it falls into."""
    made = run()
    rng = np.random.default_rng(5)
    at_ns = np.cumsum(rng.integers(90 * MS, 104 * MS, made.blocks[-1].end_ns // (97 * MS))).astype(np.int64)
    for rows in made.data.values():
        holds = np.searchsorted(at_ns, rows["retire_ns"], "right") > np.searchsorted(at_ns, rows["submit_ns"], "left")
        rows["retire_ns"] += (holds * cost_ms * 1e6).astype(np.int64)
    made.samples = [series([(int(t), 0, 1.0) for t in at_ns], source="nvml", metric="power_w", subject="x")]
    return made


# overlap


def one_ends_early() -> FakeRun:
    return run(lambda t, s, r: tuple(x[: 200 if t == "fft" and s == SHARED else N] for x in calm(t, s, r)))


def windows(long_ms: float) -> FakeRun:
    """Windows of 200 ms. gemm begins ``long_ms`` long iterations before them, which last for most of one."""
    made = run()
    for block in made.blocks:
        if "+" not in block.condition:
            continue
        opened = block.start_ns + 300 * MS
        index = block.index
        made.blocks[index] = replace(block, window_ns=(opened, opened + 200 * MS))
        rows = made.data["gemm", index][:60].copy()
        begin = opened - round((long_ms - 20) * 1e6) if long_ms else opened - 290 * MS
        each_ns = round((long_ms or 9.0) * 1e6)
        rows["submit_ns"] = begin + np.arange(60) * (each_ns + MS)
        rows["due_ns"], rows["retire_ns"] = rows["submit_ns"], rows["submit_ns"] + each_ns
        rows["device_ms"] = 1.0
        made.data["gemm", index] = rows
    return with_info(made, blocks=tuple(made.blocks))


# the rest


def first_slow() -> FakeRun:
    def latencies(tenant: str, side: str, number: int) -> tuple[Array, Array]:
        service, device = calm(tenant, side, number)
        service[0] += 4.0 if side == SHARED else 0.0
        return service, device

    return run(latencies)


def locked() -> FakeRun:
    made = run()
    for (tenant, block), rows in made.data.items():
        period_ns = 50 * MS if tenant == "fft" else 70 * MS
        offset_ns = int(np.random.default_rng([block, len(tenant)]).uniform(0, 70e6))
        rows["submit_ns"] = made.blocks[block].start_ns + offset_ns + np.arange(N) * period_ns
        rows["due_ns"], rows["retire_ns"] = rows["submit_ns"], rows["submit_ns"] + 4 * MS
    return made


def open_loop(interval_ms: float) -> FakeRun:
    made = run()
    for rows in made.data.values():
        service_ns, free_ns = rows["retire_ns"] - rows["submit_ns"], int(rows["submit_ns"][0])
        begin_ns = free_ns
        for i, taken in enumerate(service_ns.tolist()):
            due_ns = begin_ns + round(i * interval_ms * 1e6)
            submit_ns = max(due_ns, free_ns)
            free_ns = submit_ns + taken
            rows["due_ns"][i], rows["submit_ns"][i], rows["retire_ns"][i] = due_ns, submit_ns, free_ns
    tenants = tuple(replace(t, arrivals=Poisson(rate_hz=1000 / interval_ms)) for t in made.info.plan.tenants)
    return with_info(made, plan=replace(made.info.plan, tenants=tenants))


def drifting(step: float) -> FakeRun:
    return run(lambda t, s, r: tuple(x * (1 + step * r) for x in calm(t, s, r)))


def device_over_service() -> FakeRun:
    return run(lambda t, s, r: (calm(t, s, r)[0], calm(t, s, r)[0] * 1.05))


def short() -> FakeRun:
    return run(lambda t, s, r: tuple(x[:12] for x in calm(t, s, r)))


FAILS: dict[str, Make] = {
    "same-gpu": on_two_gpus,
    "clock-alignment": lambda: pairs(5 * MS),
    "no-neighbour": lambda: watched((2, 5), slower=1.5),
    "as-asked": lambda: with_worker("fft", cpu_limit=0.5),
    "lost-records": damaged,
    "steady": slows_down,
    "alone": lambda: waiting(0.3, 0.3),
    "overlap": one_ends_early,
    "symmetry": lambda: windows(180.0),
    "block-starts": first_slow,
    "phase-lock": locked,
    "keeps-up": lambda: open_loop(3.0),
    "clocks": lambda: sampled({"sm_clock_mhz": lambda side: 1980.0 if side == "solo" else 1500.0}),
    "cores": lambda: on_all_cores(0.1),
    "drift": lambda: drifting(0.012),
    "conservation": device_over_service,
    "observer": lambda: read_within(3.0),
    "samples": short,
}
PASSES: dict[str, Make] = dict.fromkeys(FAILS, run) | {
    "clock-alignment": lambda: pairs(100, stepped_ns=3600 * S),
    "no-neighbour": lambda: watched(()),
    "alone": lambda: waiting(0.0, 0.3),
    "symmetry": lambda: windows(0.0),
    "phase-lock": lambda: run(think_ms=20.0),
    "keeps-up": lambda: open_loop(8.0),
    "clocks": lambda: sampled({"sm_clock_mhz": lambda _: 1980.0}),
    "cores": lambda: on_all_cores(0.0),
    "observer": lambda: read_within(0.0),
}


def of(made: FakeRun, code: str) -> list[Check]:
    checks = analyse(made).summary.checks
    assert checks is not msgspec.UNSET
    return [one for one in checks if one.code == code]


@pytest.mark.parametrize("code", FAILS)
def test_a_run_with_the_fault_fails_and_says_what_it_does_to_the_figures(code: str) -> None:
    failed = [one for one in of(FAILS[code](), code) if one.outcome == "failed"]
    assert failed
    for one in failed:
        assert one.figure
        assert one.text.endswith(".")
        assert one.caution
        assert one.off is None or one.off >= 0


@pytest.mark.parametrize("code", PASSES)
def test_a_run_without_it_passes(code: str) -> None:
    found = of(PASSES[code](), code)
    assert found
    assert {one.outcome for one in found} == {"passed"}, [one.text for one in found]
    assert all(one.figure and one.text.endswith(".") and not one.lowers and one.off is None for one in found)


def test_no_check_is_without_its_runs_its_title_and_its_place() -> None:
    """Else one could be added that nobody has seen fail."""
    assert set(FAILS) == set(PASSES) == set(TITLES) == set(CHECKS)
    assert list(CHECKS) == list(TITLES)


def test_every_check_says_something_of_every_run() -> None:
    """Else a check that was not asked could not be told from one that passed."""
    summary = analyse(run()).summary
    assert summary.checks is not msgspec.UNSET
    there = {(one.code, one.tenant) for one in summary.checks}
    for code, asked in CHECKS.items():
        wanted = {"fft", "gemm"} if asked.of_tenant else {""}
        assert {(code, name) for name in wanted} <= there
    assert all(one.text for one in summary.checks)


def test_cautions_are_those_of_the_checks() -> None:
    """Else summary.json could say two things of one run."""
    summary = analyse(short()).summary
    assert summary.checks is not msgspec.UNSET
    told = {(one.caution, one.text) for one in summary.checks if one.caution}
    assert told == {(one.code, one.text) for one in summary.warnings}


@pytest.mark.parametrize("make", [on_two_gpus, lambda: pairs(5 * MS)], ids=["two GPUs", "two clocks"])
def test_figures_that_say_nothing_of_sharing_decide_nothing(make: Make) -> None:
    """Else two tenants on two GPUs would be told that sharing costs nothing."""
    made = make()
    assert analyse(run()).summary.tenants["fft"].verdict.kind == "no-change"
    for tenant in analyse(made).summary.tenants.values():
        assert tenant.verdict.kind == "undetermined"


def test_a_run_that_may_use_several_gpus_is_judged_as_asked() -> None:
    """Else the control experiment, two tenants that share nothing, could not be made."""
    made = on_two_gpus()
    with_info(made, plan=replace(made.info.plan, allow_different_gpus=True))
    (one,) = of(made, "same-gpu")
    assert (one.outcome, one.caution) == ("not-applicable", "different-gpus")
    assert analyse(made).summary.tenants["fft"].verdict.kind == "no-change"


def disturbed(side: str, rounds: tuple[int, ...], waits: int = 8) -> FakeRun:
    """Some iterations of these rounds take 12 ms longer."""

    def latencies(tenant: str, here: str, number: int) -> tuple[Array, Array]:
        service, device = calm(tenant, here, number)
        service[10 : 10 + waits] += 12.0 if here == side and number in rounds else 0.0
        return service, device

    return run(latencies)


@pytest.mark.parametrize("side", ["solo", SHARED])
def test_a_tail_of_one_round_says_how_far_p99_may_be_off(side: str) -> None:
    """One disturbed block of ten makes p99, and no median moves: else the block's disturbance is called sharing, or
    hides it."""
    fft, _ = of(disturbed(side, (3,), waits=60), "drift")
    assert (fft.outcome, fft.caution, fft.lowers) == ("failed", "tail-of-one-round", False)
    assert f"{'alone' if side == 'solo' else 'in company'} are of one of 10 rounds (the 4.)" in fft.text
    assert fft.off is not None
    assert 2.0 < fft.off < 4.0
    for harmless in (disturbed(side, tuple(range(10))), disturbed(side, (3,), waits=2)):
        assert {one.outcome for one in of(harmless, "drift")} == {"passed"}


def test_a_neighbour_that_slows_a_block_says_by_how_much_a_figure_may_be_off() -> None:
    """Half as slow again in two of ten shared blocks: their level is a tenth too high."""
    (one,) = of(FAILS["no-neighbour"](), "no-neighbour")
    assert one.off == pytest.approx(0.1, abs=0.02)


def test_readings_in_long_iterations_are_no_fault_of_theirs() -> None:
    """Long iterations hold more readings anyway; else each tail would be blamed on telemetry."""

    def tailed(tenant: str, side: str, number: int) -> tuple[Array, Array]:
        service, device = calm(tenant, side, number)
        slow = np.random.default_rng([number, len(side)]).random(N) < 0.02
        return service + 30.0 * slow, device

    made = run(tailed)
    at_ns = range(made.blocks[0].start_ns, made.blocks[-1].end_ns, 50 * MS)
    made.samples = [series([(t, 0, 1.0) for t in at_ns], source="nvml", metric="power_w", subject="x")]
    assert {one.outcome for one in of(made, "observer")} == {"passed"}


@pytest.mark.parametrize(
    ("cores", "outcome"),
    [((3,), "failed"), ((6,), "failed"), ((1,), "failed"), ((5,), "failed"), ((7,), "passed"), ((2, 3), "failed")],
    ids=["the other's", "the other's sibling", "kts's", "kts's sibling", "own sibling of nobody", "both"],
)
def test_whose_cores_they_are(cores: tuple[int, ...], outcome: str) -> None:
    """fft is on core 2 and gemm on 3 at first; 0 and 1 are kts's, and n and n + 4 are one physical core."""
    made = with_worker("gemm", run(), cores=(2,)) if cores in {(6,), (7,)} else run()
    with_worker("fft", made, cores=cores)
    fft, _ = of(made, "cores")
    assert fft.outcome == outcome


def test_cores_that_nobody_recorded_are_nobodys() -> None:
    assert listed("0-2,5") == {0, 1, 2, 5}
    assert listed("") == listed("a-b") == listed("3-") == set()
    assert {one.outcome for one in of(with_worker("fft", cores=()), "cores") if one.tenant == "fft"} == {
        "not-applicable"
    }


def test_cpu_time_of_a_core_is_no_more_than_passes() -> None:
    """Two tenants that both say to have had the one core all the time did not share it."""
    always = run(lambda t, s, r: (calm(t, s, r)[1], calm(t, s, r)[1]), kind="cpu")
    workers = tuple(replace(w, cores=(3,)) for w in always.info.workers)
    failed = [one for one in of(with_info(always, workers=workers), "conservation") if one.outcome == "failed"]
    assert [one.tenant for one in failed] == [""]
    assert failed[0].off == pytest.approx(0.6, abs=0.1)


def test_meetings_differ_where_blocks_agree_that_they_do() -> None:
    """Chance makes some blocks unequal, either way."""
    even = [100.0, 110.0, 90.0, 105.0]
    assert unequal(even, [value * 0.8 for value in even])[1]
    assert not unequal(even, [120.0, 90.0, 110.0, 70.0])[1]
    assert not unequal(even, even)[1]
    assert unequal([100.0], [75.0]) == (-0.25, True)


def test_a_stranger_on_the_tenants_core_is_told() -> None:
    """Else a program that nobody started with the run would be in the host times unseen."""
    quiet, busy = (sampled({"others_cores": lambda _, of=of: of}, source="host", scope="tenant") for of in (0.01, 0.3))
    assert {one.outcome for one in of(quiet, "cores")} == {"passed"}
    (fft, _) = of(busy, "cores")
    assert (fft.outcome, fft.figure) == ("failed", "30 %")


def test_an_error_of_the_gpu_in_a_block_is_told() -> None:
    """Else figures of a GPU that had to recover would look like others."""
    made = run()
    moment = made.blocks[4].start_ns + MS
    for at_ns, outcome in ((moment, "failed"), (made.blocks[-1].end_ns + S, "passed")):
        made.samples = [series([(at_ns, 0, 13.0)], source="nvml-xid", metric="xid_code", subject="x")]
        (one,) = of(made, "same-gpu")
        assert (one.outcome, "Xid 13 in block 4" in one.text) == (outcome, outcome == "failed")


def test_clocks_that_differ_say_what_held_them_down() -> None:
    made = sampled(
        {
            "sm_clock_mhz": lambda side: 1980.0 if side == "solo" else 1500.0,
            "limited_power_ratio": lambda side: 0.0 if side == "solo" else 0.6,
            "limited_thermal_ratio": lambda _: 0.2,
        }
    )
    fft, _ = of(made, "clocks")
    assert fft.text.endswith(
        "1500 MHz in company (-24.2 %); held down by power 0 % of the time alone, 60 % in company."
    )
    assert fft.off == pytest.approx(1 - 1500 / 1980)
