"""Rows of structured arrays, moved as bytes."""

from __future__ import annotations

import numpy as np

from kts.rows import joined, opaque

PAIR = np.dtype([("ns", "<i8"), ("part", "<u2")])


def test_moved_rows_are_the_same_rows() -> None:
    """Else calls and round trips of a watch would change when they are gathered."""
    first, second = (np.array(rows, PAIR) for rows in ([(1, 2), (-3, 4)], [(5, 6)]))
    whole = joined((first, second[:0], second))
    assert (whole.dtype, whole.tolist()) == (PAIR, [(1, 2), (-3, 4), (5, 6)])
    opaque(whole)[:2] = opaque(whole[::-1])[:2]
    assert whole.tolist() == [(5, 6), (-3, 4), (5, 6)]
    assert first.tolist() == [(1, 2), (-3, 4)]
