"""Who else was on a run's device, and when somebody looked: looks, and what they add up to.

All times are CLOCK_REALTIME nanoseconds of the machine that conducts the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

MISSED = 3
"""So many looks in a row may fail to come before the watch counts as interrupted."""

MOST = 1000
"""Presences that are kept of a kind; later ones are dropped, and `Neighbours.problems` says so."""
MOST_PROBLEMS = 20
_TOO_MANY = f"{MOST} neighbours came and went: later ones are not recorded"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in one look.

    ``who``: ``namespace/pod``, a process, ``tenant fft``, a node. ``what``: what it holds, or what is wrong with it.
    ``device``: UUIDs of the devices that it has, by commas; empty where nobody tells.
    """

    who: str
    what: str = ""
    device: str = ""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody saw at one moment.

    ``by``: who looks; ``every_ns``: until its next look is due. ``others``: uninvited neighbours. ``slots``: devices of
    the run's own tenants that are not healthy, and nodes that lost slots. ``whole``: nobody could be there unseen. A
    look that failed has a ``problem``, and saw nothing.
    """

    by: str
    every_ns: int
    at_ns: int = 0
    node: str = ""
    others: tuple[Seen, ...] = ()
    slots: tuple[Seen, ...] = ()
    whole: bool = True
    problem: str = ""


class WatchedTime(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which somebody looked, from the first look to the last, ``every_ns`` apart or a few times that."""

    by: str
    from_ns: int
    to_ns: int
    every_ns: int
    whole: bool = True


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """From the first look that saw it to the last, with none between that did not. See `Seen`, `Look`.

    It may have been there for up to ``every_ns`` longer at each end.
    """

    who: str
    what: str
    device: str
    node: str
    from_ns: int
    to_ns: int
    every_ns: int
    by: str


class Neighbours(msgspec.Struct, frozen=True, kw_only=True):
    """``others``: uninvited neighbours; ``slots``: what was wrong with the run's own slots; ``problems``: who could not
    look, and why, each once. Without ``watches`` nobody looked, and nothing else proves that nobody was there."""

    watches: tuple[WatchedTime, ...] = ()
    others: tuple[Presence, ...] = ()
    slots: tuple[Presence, ...] = ()
    problems: tuple[str, ...] = ()

    def check(self) -> None:
        """ValueError where a time cannot be."""
        times = [(watch.from_ns, watch.to_ns, watch.every_ns) for watch in self.watches]
        times += [(one.from_ns, one.to_ns, one.every_ns) for one in (*self.others, *self.slots)]
        for from_ns, to_ns, every_ns in times:
            if not 0 <= from_ns <= to_ns < 2**62 or not 0 <= every_ns < 2**62:
                raise ValueError("a watch or a presence ends before it begins")

    def after(self, look: Look) -> Neighbours:
        """With one look more. Looks of one ``by`` must come in order of time; what different ones see stays apart."""
        if look.problem:
            return self._with_problem(f"{look.by}: {look.problem}")
        last = max((n for n, watch in enumerate(self.watches) if watch.by == look.by), default=None)
        before = self.watches[last] if last is not None else None
        goes_on = (
            before is not None
            and before.whole == look.whole
            and 0 <= look.at_ns - before.to_ns <= MISSED * max(look.every_ns, before.every_ns)
        )
        if before is None or last is None or not goes_on:
            watch = WatchedTime(
                by=look.by, from_ns=look.at_ns, to_ns=look.at_ns, every_ns=look.every_ns, whole=look.whole
            )
            watches, before = (*self.watches, watch), None
        else:
            watch = replace(before, to_ns=look.at_ns, every_ns=max(look.every_ns, before.every_ns))
            watches = (*self.watches[:last], watch, *self.watches[last + 1 :])
        others = tuple(_with(self.others, look.others, look, before))
        slots = tuple(_with(self.slots, look.slots, look, before))
        found = replace(self, watches=watches, others=others, slots=slots)
        return found if max(len(others), len(slots)) < MOST else found._with_problem(_TOO_MANY)

    def _with_problem(self, text: str) -> Neighbours:
        full = len(self.problems) >= MOST_PROBLEMS
        return self if full or text in self.problems else replace(self, problems=(*self.problems, text))


def _with(
    known: Sequence[Presence], seen: Sequence[Seen], look: Look, before: WatchedTime | None
) -> Iterator[Presence]:
    """``known``, with what ``look`` saw; ``before``: the watch that it goes on with, up to the look before it."""
    fresh = {(one.who, one.what): one for one in seen}
    for old in known:
        there = old.by == look.by and before is not None and old.to_ns == before.to_ns
        now = fresh.pop((old.who, old.what), None) if there else None
        if now is not None:
            device, every_ns = now.device or old.device, max(old.every_ns, look.every_ns)
            yield replace(old, to_ns=look.at_ns, device=device, every_ns=every_ns)
        else:
            yield old
    for one in list(fresh.values())[: max(0, MOST - len(known))]:
        yield Presence(
            who=one.who,
            what=one.what,
            device=one.device,
            node=look.node,
            from_ns=look.at_ns,
            to_ns=look.at_ns,
            every_ns=look.every_ns,
            by=look.by,
        )
