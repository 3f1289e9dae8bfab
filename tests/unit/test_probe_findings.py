"""From readings to a fingerprint: what is refused, what is noted, what is written."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from tests.helpers_probe import HERE_NS, readings, sharing

from kts.errors import DataError, RefusalError
from kts.files import encode
from kts.physics.files import decode_fingerprint
from kts.physics.probe import decode_readings, findings, timer_resolution_ns
from kts.worker.probe.traces import Crowd, GapTrace, Readings

MS = 1_000_000


@pytest.fixture(scope="module")
def seen() -> Readings:
    return readings(sharing(2.087, (0.174, 0.18, 0.186, 0.192)), ms=300.0)


def test_slice_and_costs_come_back(seen: Readings) -> None:
    """Else predictions start from wrong figures. All are known here, as a simulator made the readings."""
    found = findings(seen)
    mark = found.fingerprint
    assert mark.slice_ms.value == pytest.approx(2.087, rel=0.005)
    assert [cost.value for cost in mark.preempt_ms] == pytest.approx([0.174, 0.18, 0.186, 0.192], rel=0.03)
    assert mark.yield_ms[0].value == pytest.approx(0.1, rel=0.05)
    assert mark.wake_ms[0].value == pytest.approx(0.1, rel=0.05)
    assert mark.launch_gap_ms.value == pytest.approx(0.0012)
    assert mark.timer_resolution_ns == 32
    for figure in (mark.slice_ms, *mark.preempt_ms, *mark.yield_ms, *mark.wake_ms):
        assert figure.lo <= figure.value <= figure.hi
        assert figure.hi > figure.lo
    assert [crowd.counted for crowd in found.crowds] == [1, 2, 3, 4]
    assert [crowd.switch_from_gaps_ms for crowd in found.crowds] == pytest.approx([0.174, 0.18, 0.186, 0.192], rel=0.05)
    assert found.notes == ()
    assert mark.gpu.uuid == "GPU-1"
    assert mark.slices is not None
    assert mark.slices > 100


def test_a_fingerprint_can_be_read_back(seen: Readings) -> None:
    """Else kts predict refuses what kts probe wrote."""
    mark = findings(seen).fingerprint
    assert decode_fingerprint(encode(mark), "f") == mark


def test_readings_can_be_read_back(seen: Readings) -> None:
    """Else readings of a pod cannot be used elsewhere."""
    assert decode_readings(msgspec.json.encode(seen), "r") == seen


def test_without_the_neighbours_own_traces_the_gaps_tell(seen: Readings) -> None:
    """Else a neighbour whose trace is missing costs the whole fingerprint."""
    crowds = tuple(replace(crowd, others=()) for crowd in seen.crowds)
    found = findings(replace(seen, crowds=crowds))
    assert [cost.value for cost in found.fingerprint.preempt_ms] == pytest.approx([0.174, 0.18, 0.186, 0.192], rel=0.05)


def test_programs_that_run_at_the_same_time_have_no_slice() -> None:
    """Else MPS gets a fingerprint of turns that it does not take."""
    trace = GapTrace(start_ns=HERE_NS, end_ns=HERE_NS + 300 * MS)
    both = readings(sharing(), ms=60.0, most=1)
    with pytest.raises(RefusalError, match="at the same time"):
        findings(replace(both, crowds=(Crowd(neighbours=1, watched=trace, others=(trace,)),)))


def test_too_few_turns_are_refused() -> None:
    """Else a slice is made up from one gap."""
    with pytest.raises(RefusalError, match="whole turns"):
        findings(readings(sharing(), ms=20.0, most=1))


def test_somebody_else_is_noted(seen: Readings) -> None:
    """Else a fingerprint beside a stranger looks like one alone."""
    moved = tuple(replace(crowd, neighbours=crowd.neighbours, watched=seen.crowds[3].watched) for crowd in seen.crowds)
    notes = findings(replace(seen, crowds=(*seen.crowds[:2], moved[2], seen.crowds[3]))).notes
    assert any("beside 3 the gaps count 4" in note for note in notes)


def test_few_bursts_are_noted(seen: Readings) -> None:
    """Else the cost of yielding is passed off as measured."""
    found = findings(replace(seen, bursts=()))
    assert found.fingerprint.yield_ms == found.fingerprint.preempt_ms[:1]
    assert any("few bursts" in note for note in found.notes)


@pytest.mark.parametrize(
    ("ticks", "resolution"),
    [
        ([0, 32, 96, 160, 288], 32.0),
        ([0, 0, 0, 1024, 1024, 2048, 2048], 1024.0),
        ([5, 72, 141, 208], 1.0),
        ([7], None),
        ([7, 7], None),
    ],
)
def test_the_timers_step(ticks: list[int], resolution: float | None) -> None:
    """Else the intervals are narrower than the clock can tell."""
    assert timer_resolution_ns(np.array(ticks)) == resolution


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"no", "not a probe's readings"),
        (b"\xff\xfe", "not a probe's readings"),
        (b"[]", "not a probe's readings"),
    ],
)
def test_other_files_are_refused(raw: bytes, what: str) -> None:
    """Else a wrong file ends in a traceback."""
    with pytest.raises(DataError, match=what):
        decode_readings(raw, "r")


def test_newer_and_empty_readings_are_refused(seen: Readings) -> None:
    """Else they are misread."""
    with pytest.raises(DataError, match="newer"):
        decode_readings(msgspec.json.encode(replace(seen, schema=99)), "r")
    with pytest.raises(DataError, match="no readings beside"):
        decode_readings(msgspec.json.encode(replace(seen, crowds=())), "r")
