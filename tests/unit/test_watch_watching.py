"""What watching comes to, of calls whose truth is known."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from kts.model.summary import Estimate
from kts.stats.natural import KEPT, SeenUnit
from kts.watch.calls import CALL, Array, Piece, WatchedProcess
from kts.watch.company import SECOND_NS
from kts.watch.live import Watched
from kts.watch.sides import MOST, Side
from kts.watch.watching import USUAL, ByModel, TurnCosts, Watching

LAUNCH, WAIT = 0, 22


def _trips(process: int, begins_s: np.ndarray, took_ms: np.ndarray, launches: int = 3) -> Array:
    """Calls of round trips: launches a microsecond apart, then a wait."""
    calls = np.zeros((len(begins_s), launches + 2), CALL)
    calls["process"], calls["thread"] = process, process
    begins = (np.asarray(begins_s) * 1e9).astype(np.int64)
    calls["ns"] = begins[:, None] + np.arange(launches + 2) * 1000
    calls["ns"][:, -1] = begins + (np.asarray(took_ms) * 1e6).astype(np.int64)
    calls["function"][:, -2:] = WAIT
    calls["returned"][:, -1] = 1
    return calls.ravel()


def _pod(number: int, name: str, gpu: str = "GPU-1") -> WatchedProcess:
    return WatchedProcess(
        number=number, pid=number, began_ticks=1, command="python", pod_uid=name, pod=name, namespace="n", gpus=(gpu,)
    )


def _fed(watching: Watching, calls: Array, processes: tuple[WatchedProcess, ...], until_s: float, step_s: float = 1.0):
    calls = np.sort(calls, order="ns", kind="stable")
    begin_s = until_s * (calls["ns"][0] // int(until_s * 1e9))  # these may be the second half
    edges_s = begin_s + np.arange(step_s, until_s + step_s / 2, step_s)
    cuts = np.searchsorted(calls["ns"], edges_s * 1e9)
    for number, (until, part) in enumerate(zip(edges_s, np.split(calls, cuts)[:-1], strict=True)):
        watching.take(Piece(int(until * 1e9), part, processes if not number else ()))
    return {unit.unit: unit for unit in watching.now().units}


def test_response_pace_and_share_of_time_are_those_of_the_program() -> None:
    """Else `kts watch` would show figures that are not the program's own."""
    begins = np.arange(0.001, 20, 0.01)
    units = _fed(Watching(), _trips(1, begins, np.full(len(begins), 4.0)), (_pod(1, "a"),), 20)
    a: Watched = units["n/a"]
    assert a.p50_ms.estimate == pytest.approx(4.0)
    assert a.trips == pytest.approx(100)
    assert a.launches == pytest.approx(300)
    assert a.in_flight == pytest.approx(0.4, abs=0.001)
    assert (a.namespace, a.pod, a.gpu, a.processes) == ("n", "a", "GPU-1", 1)


def test_pieces_of_any_length_give_the_same() -> None:
    """Else figures would hang on how often the kernel's buffers are read."""
    begins = np.arange(0.001, 20, 0.01)
    calls = np.concatenate([_trips(1, begins, 2 + begins % 3), _trips(2, begins + 0.002, np.full(len(begins), 5.0))])
    pods = (_pod(1, "a"), _pod(2, "b"))
    short, long = Watching(), Watching()
    assert _fed(short, calls, pods, 20, 0.1) == _fed(long, calls, pods, 20, 5)
    calls["ns"] += 20 * SECOND_NS  # now it is known how long each needs the GPU
    assert _fed(short, calls, (), 20, 0.1) == _fed(long, calls, (), 20, 5)


def test_company_is_who_has_work_in_flight_on_the_same_gpu() -> None:
    """Else a pod on another GPU would be told to slow this one."""
    begins, later = np.arange(0.001, 30, 0.01), np.arange(10.001, 20, 0.1)
    calls = [_trips(1, begins, np.full(len(begins), 2.0)), _trips(2, later, np.full(len(later), 5.0))]
    pods = (_pod(1, "a"), _pod(2, "b"))
    units = _fed(Watching(), np.concatenate(calls), pods, 30)
    assert (units["n/a"].cost.alone_s, units["n/a"].cost.shared_s) == (20, 10)
    pods = (_pod(1, "a"), _pod(2, "b", "GPU-2"))
    assert _fed(Watching(), np.concatenate(calls), pods, 30)["n/a"].cost.shared_s == 0


def test_a_process_that_ends_leaves_nothing_in_flight_and_no_unit() -> None:
    """Else pods that are gone would stay in the table, and would be company."""
    watching = Watching()
    _fed(watching, _trips(1, np.arange(0.1, 5, 0.1), np.full(49, 2.0)), (_pod(1, "a"),), 5)
    watching.take(Piece(6 * SECOND_NS, np.empty(0, CALL), gone=(1,)))
    assert watching.now().units
    watching.take(Piece(40 * SECOND_NS, np.empty(0, CALL)))
    assert not watching.now().units


def test_what_a_process_did_until_it_ended_makes_no_unit_of_nobody() -> None:
    """Else each job that ends while several seconds are told at once would leave a row, and its memory, for ever."""
    watching = Watching(window_s=5)
    calls = np.sort(_trips(1, np.arange(0.1, 9.9, 0.1), np.full(98, 2.0)), order="ns")
    watching.take(Piece(int(9.95 * SECOND_NS), calls, (_pod(1, "a"),), gone=(1,)))
    watching.take(Piece(12 * SECOND_NS, np.empty(0, CALL)))
    assert {unit.unit for unit in watching.now().units} == {"n/a"}
    watching.take(Piece(40 * SECOND_NS, np.empty(0, CALL)))
    assert not watching.now().units


def test_a_unit_whose_name_is_learnt_later_goes_on() -> None:
    """Else a pod would begin anew, without its past, when the kubelet answers."""
    watching = Watching()
    nameless = WatchedProcess(number=1, pid=1, began_ticks=1, command="python", container="c" * 64, gpus=("GPU-1",))
    begins = np.arange(0.1, 10, 0.1)
    _fed(watching, _trips(1, begins, np.full(len(begins), 2.0)), (nameless,), 10)
    watching.take(Piece(11 * SECOND_NS, np.empty(0, CALL), (_pod(1, "a"),)))
    (unit,) = watching.now().units
    assert unit.unit == "n/a"
    assert unit.trips > 5


def test_what_was_lost_or_left_out_is_said() -> None:
    """Else figures of half the calls would be taken for those of all."""
    watching = Watching()
    watching.take(Piece(SECOND_NS, np.empty(0, CALL), (_pod(1, "a"),), lost=7, unwatched=(1,), notes=("a note",)))
    now = watching.now()
    assert (now.lost, now.left_out, now.notes) == (7, 1, ("a note",))
    assert {one.what for one in now.happened} == {"lost-calls", "left-out"}


def _noisy(
    watching: Watching, *, cost_ms: float, seconds: int = 240, always: bool = False, loads_ms: float = 4
) -> dict[str, Watched]:
    """``a`` takes 4 ms, at first ``loads_ms``; each other 30 s ``b`` and ``c`` are there, and beside ``b`` in flight
    it costs more."""
    rng = np.random.default_rng(5)
    begins = np.arange(0.0, seconds, 0.02) + rng.uniform(0, 0.005, 50 * seconds)
    there = np.full(len(begins), True) if always else begins % 60 >= 30
    phase = (begins / 0.05) % 1
    took = 4 * rng.lognormal(0, 0.05, len(begins)) + cost_ms * (there & (phase < 0.4))
    took[0] = loads_ms
    began = begins[1:] > begins[0] + loads_ms / 1e3
    begins, took = np.append(begins[0], begins[1:][began]), np.append(took[0], took[1:][began])
    at = np.arange(0.0, seconds, 0.05)
    at = at if always else at[at % 60 >= 30]
    calls = [
        _trips(1, begins, took),
        _trips(2, at, np.full(len(at), 20.0)),
        _trips(3, at + 0.03, np.full(len(at), 1.0)),
    ]
    return _fed(watching, np.concatenate(calls), (_pod(1, "a"), _pod(2, "b"), _pod(3, "c")), seconds)


def test_a_program_that_loads_hides_nothing_of_what_neighbours_add() -> None:
    """Else the seconds of a pod's start would outweigh what it waits for others, for ten minutes."""
    a = _noisy(Watching(window_s=60), cost_ms=3, seconds=120, loads_ms=3000)["n/a"]
    assert a.added_ms == pytest.approx(0.5 * 50 * 0.4 * 3, rel=0.1)


def test_cost_and_whose_it_is() -> None:
    """Else nobody would know what a neighbour costs, or the wrong one would be moved."""
    a = _noisy(Watching(window_s=60), cost_ms=3)["n/a"]
    assert a.cost.df50.lo is not None
    assert a.cost.df99.estimate == pytest.approx(7 / 4.4, rel=0.06)
    assert sum(a.waits_for.values()) == pytest.approx(a.added_ms)
    assert max(a.waits_for, key=lambda name: a.waits_for[name]) == "n/b"
    # 30 of the 60 s are in company, 50 round trips a second, of which two in five take 3 ms longer
    assert a.added_ms == pytest.approx(0.5 * 50 * 0.4 * 3, rel=0.1)


def test_figures_of_a_program_that_waits_twice_are_of_its_iterations() -> None:
    """Else the median would lie between its two kinds of round trips, and what sharing costs would be of neither."""
    rng = np.random.default_rng(6)
    begins = np.arange(0.0, 240, 0.02) + rng.uniform(0, 0.005, 50 * 240)
    took = 4 * rng.lognormal(0, 0.05, len(begins)) + 2.0 * (begins % 60 >= 30)
    at = np.arange(0.0, 240, 0.02)
    at = at[at % 60 >= 30]
    copies = _trips(1, begins, np.full(len(begins), 0.1), launches=1)
    calls = [copies, _trips(1, begins + 0.0002, took, launches=30), _trips(2, at, np.full(len(at), 15.0))]
    watching = Watching(window_s=240)
    a = _fed(watching, np.concatenate(calls), (_pod(1, "a"), _pod(2, "b")), 240)["n/a"]
    assert (a.trips_each, round(a.trips)) == (2, 100)
    assert a.p50_ms.estimate == pytest.approx(5.2, abs=0.2)
    assert a.cost.df50.estimate == pytest.approx(6.2 / 4.2, rel=0.01)
    assert a.cost.df99.estimate == pytest.approx(6.7 / 4.7, rel=0.03)
    assert a.added_ms == pytest.approx(0.5 * 50 * 2, rel=0.1)
    assert a.waits_for["n/b"] == pytest.approx(a.added_ms, rel=0.1)
    assert "n/a: an iteration is 2 round trips: 1 launch, then 30" in watching.now().notes


def test_what_repeats_otherwise_from_now_on_is_compared_with_nothing_of_before() -> None:
    """Else figures would be of round trips of one program and of iterations of the next, in one pod."""
    watching, first, second = Watching(window_s=60), np.arange(0.001, 60, 0.02), np.arange(60.001, 120, 0.02)
    calls = [_trips(1, first, np.full(len(first), 1.0))]
    calls += [_trips(1, second, np.full(len(second), 0.1), 1), _trips(1, second + 0.001, np.full(len(second), 9.0), 30)]
    a = _fed(watching, np.concatenate(calls), (_pod(1, "a"),), 120)["n/a"]
    assert a.trips_each == 2
    assert a.p50_ms.estimate == pytest.approx(10.0)
    (unit,) = watching._units.values()
    assert unit.past.alone.rows()["ms"].min() == pytest.approx(10.0)


def test_who_costs_nothing_is_blamed_for_nothing() -> None:
    """Else what varies by chance would be some neighbour's."""
    a = _noisy(Watching(window_s=60), cost_ms=0, seconds=180)["n/a"]
    assert a.cost.df99.estimate == pytest.approx(1, abs=0.05)
    assert not a.waits_for.keys() - {""}


def test_without_time_alone_there_is_no_figure_but_a_models() -> None:
    """Else a pod that never is alone would have a baseline that nobody saw, or no figure where there could be one."""
    asked = []

    def foretell(own: SeenUnit, others: tuple[SeenUnit, ...]) -> ByModel:
        asked.append((own.unit, tuple(other.unit for other in others)))
        return ByModel(Estimate(estimate=1.5, lo=1.4, hi=1.6), f"by the turns of {own.gpus[0]}")

    watching = Watching(foretell=foretell)
    _noisy(watching, cost_ms=3, seconds=60, always=True)
    assert not asked  # while it watches: the model takes long
    now = watching.now(whole=True)
    a = next(unit for unit in now.units if unit.unit == "n/a")
    assert now.notes == ("by the turns of GPU-1",)
    assert "never seen without" in a.cost.df99.refused
    assert a.cost.foretold_df99 is not None
    assert ("n/a", ("n/b", "n/c")) in asked
    assert set(a.waits_for) == {"n/b", "n/c"}
    assert sum(a.waits_for.values()) == pytest.approx(a.added_ms)


def test_a_turn_costs_its_switches() -> None:
    """Else who has many short turns would be taken to cost little, and who meets others to need what these took."""
    turns = TurnCosts(slice_ms=2.0, switches_ms=0.3)
    assert turns.taken_ms(0.5) == pytest.approx(0.5 + 0.3 * 1.25)
    for met in (0.0, 0.7, 2.0):
        assert turns.need_ms(5.0 + met * turns.taken_ms(5.0), met) == pytest.approx(5.0)


def test_who_waits_for_its_own_host_is_not_taken_to_hold_the_gpu() -> None:
    """Else a neighbour of many small launches would come before the one that has the GPU, where both always are there
    together and nothing else tells them apart."""
    rng = np.random.default_rng(5)
    begins = np.arange(0.001, 29.9, 0.02) + rng.uniform(0, 0.005, 1495)
    hands = _trips(3, begins, np.full(1495, 9.0)).reshape(1495, -1)
    hands["ns"][:, 1:4] = hands["ns"][:, :1] + np.array([4, 8, 8.001]) * 1_000_000
    calls = np.concatenate(
        [_trips(1, begins, rng.uniform(4, 6, 1495)), _trips(2, begins, np.full(1495, 9.0)), hands.ravel()]
    )
    watching = Watching(window_s=30)
    _fed(watching, calls, (_pod(1, "a"), _pod(2, "holds"), _pod(3, "hands")), 30)
    calls["ns"] += 30 * SECOND_NS
    told = _fed(watching, calls, (), 30)["n/a"].waits_for
    assert told["n/holds"] / told["n/hands"] == pytest.approx(9 / (9 - 8 * 2 / 3), rel=0.1)


def test_what_is_not_watched_may_be_company() -> None:
    """Else a process that is left out would make others seem alone, and what it costs them their own."""
    watching = Watching()
    _noisy(watching, cost_ms=3, seconds=60)
    watching.take(Piece(61 * SECOND_NS, np.empty(0, CALL), unwatched=(3,)))
    watching.take(Piece(63 * SECOND_NS, np.empty(0, CALL)))
    a = next(unit for unit in watching.now(whole=True).units if unit.unit == "n/a")
    assert "not watched" in a.cost.df99.refused


def test_a_new_neighbour_is_an_event() -> None:
    """Else the pod that somebody just put on the GPU would be found days later."""
    watching = Watching()
    begins, later = np.arange(0.0, 40, 0.1), np.arange(20.0, 40, 0.1)
    calls = [_trips(1, begins, np.full(len(begins), 2.0)), _trips(2, later, np.full(len(later), 2.0))]
    _fed(watching, np.concatenate(calls), (_pod(1, "a"), _pod(2, "b")), 40)
    (event,) = watching.now().happened
    assert (event.what, event.unit) == ("new-neighbour", "n/b")
    assert 20 <= event.at_ns / 1e9 <= 30
    assert "beside n/a" in event.words


def test_memory_does_not_grow() -> None:
    """Else a node's watcher would be killed for memory, some day."""
    side = Side()
    rows = np.zeros(5000, KEPT)
    for number in range(300):
        rows["number"] = number * len(rows) + np.arange(len(rows))
        rows["window"] = number
        side.add(rows)
        assert len(side.rows()) <= MOST
    kept = side.rows()
    assert kept["window"].max() == 299
    assert len(np.unique(kept["window"])) > 200
    assert len(np.unique(kept["number"] % (kept["number"][1] - kept["number"][0]))) == 1


def test_pods_that_come_and_go_leave_nothing_behind() -> None:
    """Else a node on which jobs start and end all week would fill its watcher's memory."""
    watching, sizes = Watching(window_s=3, turns=_turns), []
    for number in range(1, 241):
        calls = np.sort(_trips(number, np.arange(0.1, 0.9, 0.1) + number, np.full(8, 2.0)), order="ns")
        watching.take(Piece((number + 1) * SECOND_NS, calls, (_pod(number, f"job-{number}"),), gone=(number,)))
        if number in {120, 240}:
            assert len(watching.now().units) <= 5
            sizes.append(len(pickle.dumps(watching)))
    assert sizes[1] <= 1.01 * sizes[0]  # all that it holds
    assert len(watching._of) <= 1
    assert not len(watching._trips._threads)


def _turns(_: str) -> TurnCosts:
    return USUAL
