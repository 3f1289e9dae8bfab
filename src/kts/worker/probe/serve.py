"""The process of one probe: requests, one JSON line each, on stdin; answers on stdout. It ends when stdin does.

So whoever started it need only go away, by whatever end, and nothing is left on the device.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import sys
from typing import BinaryIO, Literal

import msgspec

from kts.errors import KtsError
from kts.model.run import DeviceInfo
from kts.worker.detect import DeviceKind
from kts.worker.failures import first_line
from kts.worker.probe import Probe, open_probe
from kts.worker.probe.traces import GapTrace, Pair


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to do: the methods of `Probe` by name; ``stop`` ends ``saturate`` and ``bursts``; ``rest`` does nothing."""

    do: Literal["ticks", "watch", "saturate", "bursts", "chain", "pulse", "rest", "stop"]
    seconds: float = 0.0
    threshold_ns: int = 0
    enough: int | None = None
    n: int = 0
    length_ns: int = 0
    pause_s: float = 0.0
    seed: int = 0


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """``running``: saturating or bursting has begun; its result follows the request to stop. ``failed``: `KtsError`."""

    kind: Literal["done", "running", "failed"]
    info: DeviceInfo | None = None
    trace: GapTrace | None = None
    pairs: tuple[Pair, ...] = ()
    numbers: tuple[int, ...] = ()
    what: str = ""
    remedy: str = ""
    exit_code: int = 0


class RequestLines:
    """Requests from a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held = b""

    def next(self) -> Order | None:
        """The next request; None at the end."""
        while b"\n" not in self._held:
            read = os.read(self._descriptor, 65536)
            if not read:
                return None
            self._held += read
        line, _, self._held = self._held.partition(b"\n")
        return msgspec.json.decode(line, type=Order)

    def waiting(self, most_s: float) -> bool:
        """Whether there is another one, or the end; waits for it up to ``most_s``."""
        return b"\n" in self._held or bool(select.select([self._descriptor], [], [], most_s)[0])


class ProbeServer:
    """Does what the requests say, with one probe."""

    def __init__(self, probe: Probe, lines: RequestLines, out: BinaryIO) -> None:
        self._probe = probe
        self._lines = lines
        self._out = out

    def run(self) -> None:
        """Until there are no more requests."""
        while (request := self._lines.next()) is not None:
            self.say(self._answer(request))

    def say(self, answer: Reply) -> None:
        """One line."""
        self._out.write(msgspec.json.encode(answer) + b"\n")
        self._out.flush()

    def _answer(self, request: Order) -> Reply:
        probe = self._probe
        trace: GapTrace | None = None
        pairs: list[Pair] = []
        numbers: list[int] = []
        match request.do:
            case "ticks":
                numbers = probe.ticks(request.n)
            case "watch":
                trace = probe.watch(request.seconds, threshold_ns=request.threshold_ns, enough=request.enough)
            case "saturate":
                trace = probe.saturate(request.threshold_ns, self._running, self._lines.waiting)
                self._lines.next()
            case "bursts":
                pairs = self._bursts(request)
            case "chain":
                pairs = probe.chain(request.n, request.length_ns)
            case "pulse":
                numbers = [probe.pulse()]
            case "rest" | "stop":
                pass
        return Reply(kind="done", trace=trace, pairs=tuple(pairs), numbers=tuple(numbers))

    def _running(self) -> None:
        self.say(Reply(kind="running"))

    def _bursts(self, request: Order) -> list[Pair]:
        """Pauses vary by half to either side, so that bursts come at all phases of the watcher's slices."""
        rng = random.Random(request.seed)
        self._running()

        def go_on() -> bool:
            return not self._lines.waiting(request.pause_s * rng.uniform(0.5, 1.5))

        pairs = self._probe.bursts(request.length_ns, go_on)
        self._lines.next()
        return pairs


def serve(kind: DeviceKind) -> int:
    """Opens the probe, says so (the answer to no request), and serves stdin; the exit code."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not end up among the answers
    try:
        probe = open_probe(kind)
        server = ProbeServer(probe, RequestLines(sys.stdin.fileno()), out)
        server.say(Reply(kind="done", info=probe.info()))
        server.run()
        probe.close()
    except BrokenPipeError:
        return 0
    except Exception as error:
        if os.environ.get("KTS_DEBUG") == "1":
            raise
        answer = failed(error)
        with contextlib.suppress(OSError):
            out.write(msgspec.json.encode(answer) + b"\n")
            out.flush()
        return answer.exit_code
    return 0


def failed(error: BaseException) -> Reply:
    """What went wrong, for the one who asked."""
    if isinstance(error, KtsError):
        return Reply(kind="failed", what=error.what, remedy=error.remedy, exit_code=error.exit_code)
    what = f"the probe failed: {type(error).__name__}: {first_line(error)}"
    return Reply(kind="failed", what=what, remedy="set KTS_DEBUG=1 for the traceback, and report it", exit_code=1)
