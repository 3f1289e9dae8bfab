"""When a source that is asked over a network did not answer, and when to ask it again."""

from __future__ import annotations

from kts.model.telemetry import Gap
from kts.units import NS_PER_MS, NS_PER_S

FIRST_PAUSE_NS = 100 * NS_PER_MS
LONGEST_PAUSE_NS = 5 * NS_PER_S
MOST_KEPT = 50


class Outages:
    """Its gaps. ``began_ns``: since when it is asked."""

    def __init__(self, began_ns: int) -> None:
        self.kept: list[Gap] = []
        self._count = 0
        self._total_ns = 0
        self._answered_ns = began_ns
        self._pause_ns = 0
        self._again_ns = began_ns
        self._open: Gap | None = None
        self._why = ""

    def due(self, now_ns: int) -> bool:
        """Whether to ask it now. After failures it is asked less and less often, at least every 5 s."""
        return now_ns >= self._again_ns

    def failed(self, now_ns: int, why: str) -> None:
        """It did not answer, or with nothing that could be used."""
        self._open, self._why = Gap(begin_ns=self._answered_ns, end_ns=now_ns, why=why), why
        self._pause_ns = min(LONGEST_PAUSE_NS, 2 * self._pause_ns or FIRST_PAUSE_NS)
        self._again_ns = now_ns + self._pause_ns

    def answered(self, now_ns: int) -> bool:
        """It did. True if it did not the time before."""
        over = self._open
        self._answered_ns, self._pause_ns, self._open = now_ns, 0, None
        if over is None:
            return False
        self._count += 1
        self._total_ns += now_ns - over.begin_ns
        if len(self.kept) < MOST_KEPT:
            self.kept.append(Gap(begin_ns=over.begin_ns, end_ns=now_ns, why=over.why))
        return True

    def gaps(self) -> tuple[Gap, ...]:
        """Those kept, and the one that goes on."""
        return (*self.kept, self._open) if self._open else tuple(self.kept)

    def words(self) -> str:
        """What a reader must know of them; empty without any."""
        count, total_ns = self._count, self._total_ns
        if self._open is not None:
            count, total_ns = count + 1, total_ns + self._open.end_ns - self._open.begin_ns
        if not count:
            return ""
        lasted = f"{total_ns / NS_PER_S:.3g} s"
        return f"no answer for {lasted}" + (f" in {count} gaps" if count > 1 else "") + f" ({self._why})"
