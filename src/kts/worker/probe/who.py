"""Who is on the device now: a few short looks, or one long watch.

A probe that runs takes turns as every tenant does. A look ends with the first gap, so it costs whoever is there one
slice; a watch takes its turns for as long as it lasts, and only it can tell a period.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from kts.files import decode
from kts.model.run import DeviceInfo
from kts.units import format_ms
from kts.worker.detect import DeviceKind
from kts.worker.probe.gaps import Count, SliceCosts, count
from kts.worker.probe.neighbours import Neighbourhood
from kts.worker.probe.serve import Order
from kts.worker.probe.traces import BLIP_NS, Looks, threshold_ns

LOOK_S = 0.05
"""A look waits this long for a gap: longer than any slice that is known of. On an idle device that disturbs nobody."""
EVERY_S = 1.0
ENOUGH = {"cuda": 1, "cpu": 3}
"""Gaps per look: a GPU's turns are all alike, a CPU's kernel may begin with a short one."""


def look(
    kind: DeviceKind,
    mode: str,
    *,
    looks: int = 5,
    watch_s: float | None = None,
    cores: Sequence[int] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    command: Sequence[str] | None = None,
) -> Looks:
    """``looks`` of them, one a second, or with ``watch_s`` one watch without a break."""
    with Neighbourhood(kind, 0, cores, command) as here:
        ticks = here.watcher.ask(Order(do="ticks", n=1024)).numbers
        blip = max(BLIP_NS[kind], threshold_ns(np.array(ticks, dtype=np.int64)))
        if watch_s is not None:
            seen = here.watcher.trace(Order(do="watch", seconds=watch_s, threshold_ns=blip), watch_s + 60)
            return Looks(device=here.device, mode=mode, blip_ns=blip, kind="watch", looks=(seen,))
        limit_s = ENOUGH[kind] * LOOK_S
        taken = []
        for i in range(looks):
            if i:
                sleep(EVERY_S)
            seen = here.watcher.trace(Order(do="watch", seconds=limit_s, threshold_ns=blip, enough=ENOUGH[kind]))
            taken.append(seen)
        return Looks(device=here.device, mode=mode, blip_ns=blip, kind="looks", looks=tuple(taken))


class _Figure(msgspec.Struct):
    value: float


class _Fingerprint(msgspec.Struct):
    slice_ms: _Figure
    preempt_ms: tuple[_Figure, ...]
    yield_ms: tuple[_Figure, ...] = ()

    def check(self) -> None:
        """ValueError where nothing can be shared like that."""
        costs = (*self.preempt_ms, *self.yield_ms)
        if not self.slice_ms.value > 0 or not self.preempt_ms or any(cost.value < 0 for cost in costs):
            raise ValueError("a slice is above 0, and no cost below")


def sharing_of(fingerprint: bytes, name: str) -> SliceCosts:
    """What a look needs of a fingerprint file, whose full form the light image does not know. DataError if none."""
    found = decode(fingerprint, _Fingerprint, name, "not a fingerprint", "give a file that kts probe wrote")
    return SliceCosts(
        slice_ms=found.slice_ms.value,
        switch_ms=tuple(cost.value for cost in found.preempt_ms),
        yield_ms=found.yield_ms[0].value if found.yield_ms else None,
    )


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """What `who` prints as JSON."""

    device: DeviceInfo
    is_gpu: bool
    mode: str
    kind: str
    count: Count
    sentence: str


def answer(looks: Looks, known: SliceCosts | None) -> Sighting:
    """The count and its sentence."""
    found = count(looks, known)
    return Sighting(
        device=looks.device,
        is_gpu=looks.device.kind == "cuda",
        mode=looks.mode,
        kind=looks.kind,
        count=found,
        sentence=sentence(found, looks),
    )


def sentence(found: Count, looks: Looks) -> str:
    """What a count says, in one line; the device by its honest name."""
    n = found.neighbours
    where = looks.device.label
    who = (
        "nobody keeps it busy" if n == 0 else f"{n} neighbour{'s' if n > 1 else ''} keep{'s' if n == 1 else ''} it busy"
    )
    text = f"{where}: {who} (sure: {found.sure:.0%})"
    if n:
        text += f"; you get 1 turn in {n + 1}"
    if found.stale_ms is not None and found.slice_ms is not None:
        text += f"; a slice is {format_ms(found.slice_ms)} now, no longer the {format_ms(found.stale_ms)} of the "
        text += "fingerprint: make a new one"
    pattern = found.pattern
    if pattern is None:
        return f"{text}." if found.present or n else f"{text}, and nobody was seen at all."
    more = "somebody else" if n else "somebody"
    text += f"; {more} comes in bursts of about {format_ms(pattern.burst_ms)}"
    if pattern.period_ms is not None:
        text += f", {'every' if pattern.regular else 'irregularly, about every'} {format_ms(pattern.period_ms)}"
    return f"{text}."
