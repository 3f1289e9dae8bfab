"""Events of a watch: told soon, and seldom wrong."""

from __future__ import annotations

from itertools import accumulate

import numpy as np

from kts.watch.alarms import FORGOTTEN_S, LEARNT_S, Newcomers, TailAlarm


def test_a_new_neighbour_is_told_within_ten_seconds_and_once() -> None:
    """Else nobody would hear of whom the GPU is shared with, or of the same one for ever."""
    newcomers, told = Newcomers(), []
    for second in range(400):
        busy = ["own"] + (["new"] if 100 <= second < 200 or second >= 300 else [])
        told += [(second, *one) for one in newcomers.second(second, {"g": busy, "h": ["elsewhere"]})]
    ((second, unit, gpu, others),) = told
    assert 100 <= second <= 110
    assert (unit, gpu, others) == ("new", "g", ("own",))


def test_who_computes_for_a_moment_is_no_neighbour() -> None:
    """Else each tool that touches the GPU would be an event."""
    newcomers = Newcomers()
    assert not any(
        newcomers.second(second, {"g": ["own"] + (["tool"] if second in {100, 101} else [])}) for second in range(300)
    )


def test_who_is_known_is_forgotten_after_a_day() -> None:
    """Else what is remembered of pods would grow for as long as the node lives."""
    newcomers = Newcomers()
    for second in range(5):
        newcomers.second(second, {"g": ["own", "other"]})
    newcomers.second(60 * ((FORGOTTEN_S + 120) // 60), {})
    assert not newcomers._known
    assert not newcomers._busy


def _told(rng: np.random.Generator, seconds: int, doubles_at: int) -> list[int]:
    """When it is told of a program whose level wanders by 7 %, 60 iterations a second."""
    alarm, steps = TailAlarm(), 0.01 * rng.standard_normal(seconds)
    level = np.array(list(accumulate(steps.tolist(), lambda before, step: 0.99 * before + step)))
    ms = rng.lognormal(0, 0.3, (seconds, 60)).astype(np.float32) * (8 * np.exp(level))[:, None]
    ms[doubles_at:] *= 2.5
    return [second for second, those in enumerate(ms) if alarm.second(second, those)]


def test_a_tail_that_doubles_is_told_and_one_that_does_not_is_not() -> None:
    """Else nobody would hear of it, or nobody would listen any more."""
    rng = np.random.default_rng(1)
    assert len(_told(rng, 24 * 3600, 10**9)) <= 1  # in a day
    (told,) = _told(rng, 4 * LEARNT_S, 3 * LEARNT_S)
    assert 3 * LEARNT_S < told <= 3 * LEARNT_S + 60
