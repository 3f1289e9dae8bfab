"""What a worker alone prints: a KTS_APP v1 line per iteration and, where asked for, what frames them."""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import TextIO

from kts.model.records import Records
from kts.units import NS_PER_S, s_to_ns
from kts.wire.appline import AppLine, format_line
from kts.wire.logframe import End, Meta, echo_of, format_end, format_meta
from kts.worker.clocks import epoch_offset_ns


class AppLog:
    """Called between iterations only. Everything is flushed at once, so that a killed pod loses nothing printed."""

    def __init__(
        self, app: str, out: TextIO, *, framed: bool, echo_s: float, now: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """``echo_s``: how much later each line is printed again; 0: never. ``now``: monotonic ns."""
        self._app = app
        self._out = out
        self._framed = framed
        self._lag_ns = s_to_ns(echo_s)
        self._now = now
        self._count = 0
        self._crc32 = 0
        self._echoes: deque[tuple[int, str]] = deque()

    def begin(self, meta: Meta) -> None:
        """The header; with echoes it comes again, too."""
        text = format_meta(meta) + "\n"
        if self._lag_ns:
            self._echoes.append((self._now() + self._lag_ns, text))
        self._print(text)

    def iterations(self, lines: Iterable[AppLine]) -> None:
        """The lines, and the echoes that are due, in one write."""
        texts = [format_line(line) + "\n" for line in lines]
        text = "".join(texts)
        self._count += len(texts)
        if not (self._framed or self._lag_ns):
            self._print(text)
            return
        self._crc32 = zlib.crc32(text.encode(), self._crc32)
        now_ns = self._now()
        if self._lag_ns:
            self._echoes += [(now_ns + self._lag_ns, echo_of(one)) for one in texts]
        self._print(text + self._due(now_ns))

    def end(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """The trailer; then the echoes that are left, each at its time, and the trailer again: it may get lost, too."""
        trailer = format_end(End(app=self._app, count=self._count, crc32=self._crc32)) + "\n"
        if self._framed:
            self._print(trailer)
        last_ns = self._now() + self._lag_ns
        while self._echoes:
            sleep(max(self._echoes[0][0] - self._now(), 0) / NS_PER_S)
            self._print(self._due(self._now()))
        if self._framed and self._lag_ns:
            sleep(max(last_ns - self._now(), 0) / NS_PER_S)
            self._print(trailer)

    def _due(self, now_ns: int) -> str:
        lines = []
        while self._echoes and self._echoes[0][0] <= now_ns:
            lines.append(self._echoes.popleft()[1])
        return "".join(lines)

    def _print(self, text: str) -> None:
        if text:
            self._out.write(text)
            self._out.flush()


class LinesOutlet:
    """A `kts.worker.loop.Outlet` that prints every record as its line, and never wants the block to end.

    Records are on the monotonic clock. A line has CLOCK_REALTIME as it is when the line is printed, so that a step of
    that clock moves lines and lengthens none.
    """

    def __init__(self, log: AppLog, app: str, phase: str, offset_ns: Callable[[], int] = epoch_offset_ns) -> None:
        self._log = log
        self._app = app
        self._phase = phase
        self._offset_ns = offset_ns

    def records(self, records: Records) -> None:
        """Prints them."""
        offset_ns = self._offset_ns()
        self._log.iterations(
            AppLine(
                app=self._app,
                i=i,
                start_ns=submit_ns + offset_ns,
                end_ns=retire_ns + offset_ns,
                device_ms=device_ms,
                phase=self._phase,
            )
            for i, _, submit_ns, retire_ns, device_ms, *_ in records.tolist()
        )

    def heartbeat(self, now_ns: int, iterations: int) -> None:
        """Nobody listens."""

    def quota_reached(self, at_ns: int) -> None:
        """Nobody waits for it."""

    def stopped(self) -> bool:
        """Nobody can wish it."""
        return False
