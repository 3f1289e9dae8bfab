"""What is measured for a fingerprint, step by step, with neighbours of its own. A few seconds in all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from kts.errors import RefusalError
from kts.units import ms_to_ns
from kts.worker.detect import DeviceKind
from kts.worker.probe.gaps import turns
from kts.worker.probe.neighbours import Neighbourhood, ProbeProcess, gather
from kts.worker.probe.serve import Order
from kts.worker.probe.traces import BLIP_NS, Bursts, Crowd, GapTrace, Readings, threshold_ns

Say = Callable[[str], None]

MOST_NEIGHBOURS = 4
ALONE_S = 0.4
TICKS = 4096
UNINVITED = {"cuda": 0.005, "cpu": 0.05}
"""Share of the time that a quiet device may be away: a CPU core has small threads of the kernel's."""


class ProbeEffort(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured. ``seconds``: watching beside each number of neighbours."""

    seconds: float = 0.8
    most: int = MOST_NEIGHBOURS
    burst_ms: float = 0.5
    pause_ms: float = 6.0
    pulses: int = 60
    chain: int = 64
    chain_ms: float = 0.02


def measure(
    kind: DeviceKind,
    mode: str,
    *,
    effort: ProbeEffort = ProbeEffort(),  # noqa: B008 - frozen
    cores: Sequence[int] | None = None,
    anyway: bool = False,
    say: Say = lambda _: None,
    command: Sequence[str] | None = None,
    kts: str = "",
) -> Readings:
    """Readings for a fingerprint. RefusalError where somebody uninvited is on the device, unless ``anyway``."""
    with Neighbourhood(kind, effort.most, cores, command) as here:
        watcher = here.watcher
        ticks = watcher.ask(Order(do="ticks", n=TICKS)).numbers
        threshold = threshold_ns(np.array(ticks, dtype=np.int64))
        say("alone")
        alone = watcher.trace(Order(do="watch", seconds=ALONE_S, threshold_ns=threshold))
        _check(kind, alone, anyway)
        crowds = []
        for n in range(1, effort.most + 1):
            say(f"beside {n} saturating neighbour{'s' if n > 1 else ''}")
            crowds.append(_crowd(watcher, here.neighbours[:n], effort.seconds, threshold))
        say("beside short bursts")
        bursts = [_bursts(watcher, here.neighbours[0], effort, factor, threshold) for factor in (1.0, 2.0)]
        say("on an idle device")
        chain = watcher.ask(Order(do="chain", n=effort.chain, length_ns=ms_to_ns(effort.chain_ms))).pairs
        same, other = _pulses(watcher, here.neighbours[0], effort.pulses) if kind == "cuda" else ((), ())
        return Readings(
            kts=kts,
            device=here.device,
            mode=mode,
            blip_ns=max(BLIP_NS[kind], threshold),
            ticks=ticks,
            alone=alone,
            crowds=tuple(crowds),
            bursts=tuple(bursts),
            chain=chain,
            pulse_same_ns=same,
            pulse_other_ns=other,
            created_ns=time.time_ns(),
        )


def _check(kind: DeviceKind, alone: GapTrace, anyway: bool) -> None:
    away = turns(alone, BLIP_NS[kind]).away
    if away > UNINVITED[kind] and not anyway:
        raise RefusalError(
            f"somebody else is on this device: it was away for {away:.1%} of the time with no neighbour of the probe's",
            "kts probe --who says who; end them, or measure anyway with --anyway",
        )


def _crowd(watcher: ProbeProcess, neighbours: Sequence[ProbeProcess], seconds: float, threshold: int) -> Crowd:
    gather(neighbours, Order(do="saturate", threshold_ns=threshold))  # all answer once they run
    watched = watcher.trace(Order(do="watch", seconds=seconds, threshold_ns=threshold))
    stopped = gather(neighbours, Order(do="stop"))
    others = tuple(answer.trace for answer in stopped if answer.trace is not None)
    return Crowd(neighbours=len(neighbours), watched=watched, others=others)


def _bursts(
    watcher: ProbeProcess, neighbour: ProbeProcess, effort: ProbeEffort, factor: float, threshold: int
) -> Bursts:
    length_ns = ms_to_ns(effort.burst_ms * factor)
    neighbour.ask(Order(do="bursts", length_ns=length_ns, pause_s=effort.pause_ms / 1000, seed=round(factor)))
    watched = watcher.trace(Order(do="watch", seconds=effort.seconds, threshold_ns=threshold))
    return Bursts(length_ns=length_ns, watched=watched, pairs=neighbour.ask(Order(do="stop")).pairs)


def _pulses(watcher: ProbeProcess, neighbour: ProbeProcess, n: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Host time of an empty kernel after the neighbour did as little (other), or only answered (same), in turns."""
    same: list[int] = []
    other: list[int] = []
    for _ in range(n):
        neighbour.ask(Order(do="rest"))
        same += watcher.ask(Order(do="pulse")).numbers
        neighbour.ask(Order(do="pulse"))
        other += watcher.ask(Order(do="pulse")).numbers
    return tuple(same), tuple(other)
