"""Turns, looked for: in each mode whose tenants have contexts of their own, two probes watch the device at once.

They are in the environments of two of its tenants, and are gone before these come, so that nothing measured can suffer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import numpy as np

from kts.errors import KtsError
from kts.model.mode import MPS, TIME_SLICING
from kts.model.plan import Plan
from kts.model.sharing_facts import TurnsSeen
from kts.sharing.port import Held
from kts.worker.detect import DeviceKind
from kts.worker.probe.neighbours import ProbeProcess, gather
from kts.worker.probe.serve import Order
from kts.worker.probe.together import together
from kts.worker.probe.traces import BLIP_NS, threshold_ns

WATCH_S = 0.3
TRIES = 3
"""Of looks that tell nothing."""


def looked(plan: Plan, held: Held, say: Callable[[str], None]) -> dict[str, TurnsSeen]:
    """By the mode's name; of time-slicing and MPS, on a GPU. ``say`` is told of each before. Raises nothing of kts:
    what could not be looked at is there with its reason."""
    found = {}
    for one in plan.modes if plan.device == "cuda" else ():
        if one.mode.kind in (TIME_SLICING, MPS):
            say(f"turns in {one.mode.name}: two probes look")
            names = [*one.tenants.values()]
            try:
                found[one.mode.name] = seen("cuda", [held.env.get(name, {}) for name in (names[0], names[-1])])
            except KtsError as error:
                found[one.mode.name] = TurnsSeen(kind="not-looked", why=error.what)
    return found


def seen(
    kind: DeviceKind,
    envs: Sequence[Mapping[str, str]],
    cores: Sequence[Sequence[int] | None] = (None, None),
    command: Sequence[str] | None = None,
) -> TurnsSeen:
    """What probes in two environments, and on these cores, see of each other. SetupError or MeasurementError where they
    cannot look."""
    with ExitStack() as stack:
        probes = []
        for env, own in zip(envs, cores, strict=True):
            probe = ProbeProcess(kind, own, command, more=env)
            stack.callback(probe.reap)
            stack.callback(probe.end)
            probes.append(probe)
        for probe in probes:
            probe.opened()
        ticks = probes[0].ask(Order(do="ticks", n=1024)).numbers
        blip_ns = max(BLIP_NS[kind], threshold_ns(np.array(ticks, dtype=np.int64)))
        for _ in range(TRIES):
            a, b = (one.trace for one in gather(probes, Order(do="watch", seconds=WATCH_S, threshold_ns=blip_ns)))
            assert a is not None
            assert b is not None
            if (found := together(a, b, blip_ns)).kind != "unclear":
                break
        return found
