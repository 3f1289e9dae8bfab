"""What was read here by CLOCK_MONOTONIC, on the node's: by way of CLOCK_REALTIME, which both machines have. Pure."""

from __future__ import annotations

from kts.model.run import ClockPair
from kts.units import NS_PER_MS, format_ms


class NodeClock:
    """The node's clocks, as the headers of its workers' logs tell them, and this machine's.

    ``same``: the node is this machine, or one that has its clocks. The distance of CLOCK_REALTIME from CLOCK_MONOTONIC
    tells when a machine was booted; no two machines have the same one to within a reading's error.

    ``least_ahead_ns``, ``most_ahead_ns``: how far the node's CLOCK_REALTIME is ahead of ours (negative: behind), by the
    order in which things happened; None while nothing tells.
    """

    def __init__(self) -> None:
        self.same = False
        self.least_ahead_ns: int | None = None
        self.most_ahead_ns: int | None = None
        self._node: ClockPair | None = None
        self._read_to_ns = 0

    def meet(self, node: ClockPair, ours: ClockPair, asked_ns: int | None = None) -> None:
        """Takes a pair of the node's clocks, read after ``asked_ns`` (by our CLOCK_REALTIME; None: not known when) and
        before ``ours``, a pair of this machine's."""
        self._node = node
        self._read_to_ns = ours.error_ns + node.error_ns
        self.same = self.same or abs(_boot_ns(ours) - _boot_ns(node)) <= self._read_to_ns
        least_ns = node.realtime_ns - ours.realtime_ns
        self.least_ahead_ns = least_ns if self.least_ahead_ns is None else max(self.least_ahead_ns, least_ns)
        if asked_ns is not None:
            most_ns = node.realtime_ns - asked_ns
            self.most_ahead_ns = most_ns if self.most_ahead_ns is None else min(self.most_ahead_ns, most_ns)

    def shift_ns(self, ours: ClockPair) -> int:
        """What to add to a moment by our CLOCK_MONOTONIC for the node's; 0 on one machine, and before `meet`.

        ``ours`` should be read close to that moment: a step of our CLOCK_REALTIME, or a laptop's sleep, changes it.
        """
        return 0 if self.same or self._node is None else _boot_ns(ours) - _boot_ns(self._node)

    def how(self) -> str:
        """How samples came to the node's clock, for a reader; empty on one machine, and before `meet`."""
        if self.same or self._node is None:
            return ""
        return (
            "scraped by another machine's clock than the node's, samples were moved by both machines' time of day. The "
            f"clocks were read to within {_text(self._read_to_ns)}; beyond that NTP is trusted to keep them together"
        )

    def apart(self) -> str:
        """What is known of that trust; empty as `how`."""
        least_ns, most_ns = self.least_ahead_ns, self.most_ahead_ns
        if self.same or least_ns is None:
            return ""
        if least_ns > 0 or (most_ns is not None and most_ns < 0):
            side = f"{_text(least_ns)} ahead of" if least_ns > 0 else f"{_text(-(most_ns or 0))} behind"
            return (
                f"the node's time of day is at least {side} this machine's: samples are joined to iterations of "
                "another moment; set both clocks (NTP)"
            )
        ahead = "" if most_ns is None else f", and at most {_text(most_ns)} ahead"
        return (
            f"the node's time of day is at most {_text(-least_ns)} behind this machine's{ahead}; nothing closer is "
            "known (its log came after it was printed, its pods ran after they were asked for)"
        )


def _boot_ns(pair: ClockPair) -> int:
    """CLOCK_REALTIME when CLOCK_MONOTONIC began."""
    return pair.realtime_ns - pair.monotonic_ns


def _text(ns: int) -> str:
    return format_ms(ns / NS_PER_MS)
