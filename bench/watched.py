"""Where each simulated iteration's time went: what a decomposition of measured times should find.

The plain simulator of `bench.event_queue` is watched between its events: an iteration in flight executes (a kernel or a
copy of its own), or waits although a kernel of its own could run (who has the GPU then?), or its host is at work. The
host's time on and off the device's stopwatch is held against that of the same iteration alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from bench.event_queue import EventQueue, Host
from kts.physics.simulate import SharingModel, Stream

Floats = NDArray[np.float64]

PARTS = ("queue", "launch", "first-turn", "own", "turns", "host", "hidden", "back-to-back")
"""Where one has the name of a cause (`kts.model.causes.CauseName`), it is that."""
SWITCHES = "switches"
_BEFORE, _ON, _AFTER = "before", "on", "after"
"""Host time: before the first launch, while the stopwatch runs, and behind the end of the last launch."""


@dataclass(frozen=True, eq=False)
class Truth:
    """One stream's completed iterations, ms.

    ``rows``: due, submit, begin, end, retire, shape ``(n, 5)``. ``parts``: `PARTS`, each ``(n,)``; they add up to
    retire - due. ``queue``: due to submit. ``launch``: of the host, until something of it is handed over.
    ``first-turn`` and ``turns``: a kernel of it could run, and another's did, or a switch, before anything of it had
    begun and since. ``own``: it executes. ``host``: the rest of what its host takes alone. ``hidden``,
    ``back-to-back``: by how much more its host takes beside others, off the stopwatch and on it; seldom above 0.
    ``by``: of the two kinds of turns, by neighbour and ``switches``.
    """

    rows: Floats
    parts: Mapping[str, Floats]
    by: Mapping[str, Mapping[str, Floats]]


def truth(
    streams: Sequence[Stream],
    sharing: SharingModel,
    *,
    names: Sequence[str] = (),
    horizon_ms: float = inf,
    stop_at_first: bool = True,
) -> list[Truth]:
    """Of each stream, simulated side by side as `kts.physics.simulate.simulate` would. ``names``: as neighbours are
    called; by default their numbers."""
    names = names or [str(number) for number in range(len(streams))]
    together = _Watched(streams, sharing, names)
    together.run(horizon_ms=horizon_ms, stop_at_first=stop_at_first)
    found = []
    for stream, host, seen in zip(streams, together.hosts, together.seen, strict=True):
        n = len(host.records)
        once = replace(stream, pick=stream.pick[:n], process=None, due_ms=None, think_ms=np.zeros(n), late_ms=None)
        alone = _Watched([once], sharing, [""])
        alone.run(stop_at_first=False)
        found.append(_told(np.array(host.records).reshape(-1, 5), seen[:n], alone.seen[0][:n]))
    return found


def _told(rows: Floats, seen: Sequence[_Seen], alone: Sequence[_Seen]) -> Truth:
    def host(side: Sequence[_Seen], where: str) -> Floats:
        return np.array([one.host[where] for one in side], dtype=np.float64)

    before, on, after = (host(alone, where) for where in (_BEFORE, _ON, _AFTER))
    neighbours = sorted({name for one in seen for kind in one.others.values() for name in kind})
    by = {
        kind: {name: np.array([one.others[kind][name] for one in seen], dtype=np.float64) for name in neighbours}
        for kind in ("first-turn", "turns")
    }
    none = np.zeros(len(rows))
    parts = {
        "queue": rows[:, 1] - rows[:, 0],
        "launch": before,
        "first-turn": sum(by["first-turn"].values(), start=none),
        "own": np.array([one.own for one in seen], dtype=np.float64),
        "turns": sum(by["turns"].values(), start=none),
        "host": on + after,
        "hidden": host(seen, _BEFORE) + host(seen, _AFTER) - before - after,
        "back-to-back": host(seen, _ON) - on,
    }
    return Truth(rows, parts, by)


class _Seen:
    """One iteration, so far."""

    def __init__(self) -> None:
        self.own = 0.0
        self.host: dict[str, float] = defaultdict(float)
        self.others: dict[str, dict[str, float]] = {kind: defaultdict(float) for kind in ("first-turn", "turns")}


class _Watched(EventQueue):
    """A simulation that notes where time goes. ``seen``: of each host, its iterations, the present one last."""

    def __init__(self, streams: Sequence[Stream], sharing: SharingModel, names: Sequence[str]) -> None:
        super().__init__(streams, sharing)
        self.seen = [[_Seen()] for _ in streams]
        self._names = names

    def passes(self, until: float) -> None:
        """Nothing changes between now and then."""
        for host in self.hosts:
            took = until - max(self.now, host.submit)
            if took > 0 and len(host.records) < len(host.stream.pick):
                self._note(host, self.seen[host.number][-1], took)

    def _note(self, host: Host, seen: _Seen, took: float) -> None:
        runs = any(number == host.number for number, _ in self.running)
        if runs or any(queue and queue[0].apart for queue in host.lanes.values()):
            seen.own += took
        elif host.kernels:
            others = seen.others["first-turn" if host.begin is None else "turns"]
            others[self._who()] += took
        else:
            seen.host[_BEFORE if host.begin is None else _ON] += took

    def _who(self) -> str:
        """Who has the GPU: of several threads of a process, the first that runs."""
        if self.switching_to is not None or not self.running:
            return SWITCHES
        return self._names[min(number for number, _ in self.running)]

    def _over(self, host: Host) -> bool:
        over = super()._over(host)
        *_, end, retire = host.records[-1]
        seen = self.seen[host.number]
        seen[-1].host[_AFTER] += retire - end
        seen.append(_Seen())
        return over
