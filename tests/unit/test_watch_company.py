"""Who has work in flight, and who the GPU: if these fail, the wrong neighbour is blamed."""

from __future__ import annotations

import numpy as np
import pytest

from kts.watch.company import BINS, SECOND_NS, held, of_second, shares
from kts.watch.roundtrips import FLIGHT

MS = 1_000_000


def _flights(*spans_ms: tuple[float, float]) -> np.ndarray:
    found = np.zeros(len(spans_ms), FLIGHT)
    for row, (begin, end) in zip(found, spans_ms, strict=True):
        row["begin_ns"], row["end_ns"] = begin * MS, end * MS
    return found


def test_a_round_trip_has_the_gpu_for_as_long_as_it_needs_it() -> None:
    """Else one that is in flight for long, since it waits, would count as one that works for long. Two processes of a
    unit need it for both; what is outside of the second is not of it."""
    flights = _flights((-500.0, 500.0), (10.25, 30.75), (20.0, 40.0), (900.0, 1100.0))
    unit, density = np.array([0, 1, 1, 2]), np.array([0.2, 0.5, 0.25, 1.0])
    own = shares(flights["begin_ns"], flights["end_ns"], unit, 4, 0)
    has = held(flights["begin_ns"], flights["end_ns"], unit, density, own)
    assert has.shape == (4, BINS)
    assert has.sum(axis=1) == pytest.approx([0.2 * 500, 0.5 * 20.5 + 0.25 * 20, 100, 0])
    assert has[1, [9, 10, 15, 25, 30, 39, 40]] == pytest.approx([0, 0.375, 0.5, 0.75, 0.375 + 0.25, 0.25, 0])


def test_a_unit_waits_for_who_has_the_gpu_while_it_has_work() -> None:
    """Else a neighbour would be blamed for what it does while nobody waits. All together have no more than one GPU."""
    flights = _flights((0, 100), (0, 400), (50, 150), (0, 1000))
    unit, density = np.array([0, 1, 2, 3]), np.array([1.0, 0.5, 1.0, 1.0])
    gpus = [("a",), ("a",), ("a",), ("b",)]
    company = of_second(flights, unit, gpus, density, 0)
    beside = company.beside
    assert beside[0] == pytest.approx([0, 0.05 / 2 + 0.05 / 2 / 1.5, 0.05 / 1.5, 0])
    assert not beside[3].any()
    assert beside[1, 2] == pytest.approx(0.05 + 0.05 / 2)
    assert SECOND_NS == BINS * MS
    assert company.met[0, [20, 70, 120]] == pytest.approx([1, 2, 2])
    assert company.met[1, [20, 70, 120, 300]] == pytest.approx([1, 2, 1, 0])
    assert not company.met[3].any()
