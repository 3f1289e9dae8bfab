"""What watching comes to, of calls whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from kts.watch.calls import CALL, Array, Piece, WatchedProcess
from kts.watch.company import SECOND_NS
from kts.watch.live import Watched
from kts.watch.watching import Watching

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
    edges_s = np.arange(step_s, until_s + step_s / 2, step_s)
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
    assert _fed(Watching(), calls, pods, 20, 0.1) == _fed(Watching(), calls, pods, 20, 5)


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
