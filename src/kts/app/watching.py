"""Watching this node, or a recording of one: states as they come, kept in a directory, or served."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace
from rich.console import Console

from kts import __version__, files
from kts.app import watch_turns
from kts.app.printing import Say, silent
from kts.app.watched import RECORDING, STATE, is_watch
from kts.errors import DataError, SetupError, UsageError
from kts.k8s.objects.names import ENV_NODE
from kts.report.metrics import Board
from kts.report.screen import Screen
from kts.report.serving import address_of, serve
from kts.report.writing import write_watch
from kts.units import NS_PER_S
from kts.watch.calls import CallSource, Piece, WatchedProcess
from kts.watch.limits import MOST_CALLS_S
from kts.watch.live import Happened, WatchNow
from kts.watch.recording import PieceWriter, RecordedSource
from kts.watch.watching import Watching
from kts.worker.detect import driver_version
from kts.worker.host import boot_id

WINDOW_S = 60.0
LONGEST_WINDOW_S = 600.0
"""All round trips of a window are held."""
EVERY_S = 0.5
"""Between two states at least; the last is always shown."""
Show = Callable[[WatchNow], None]
Learn = Callable[[Piece], None]
Lost = Callable[[], Iterable[str]]
"""UUIDs of GPUs that were there when it was asked before."""
LOST_S = 5.0
"""Between two questions for them."""


@dataclass(frozen=True, kw_only=True)
class WatchAsked:
    """What shall be watched, and for how long.

    ``recording``: a recording, or a directory that holds one, instead of this node. ``seconds``: of the node's time,
    None: until it is stopped, or the recording ends. ``window_s``: what figures of now are about; None: `WINDOW_S`, or
    ``seconds`` where these are fewer. ``pace``: a recording's seconds per second; 0: as fast as it can be read.
    ``out``: a directory that gets the recording, the last state and its report. ``fingerprint``: by whose turns the
    model tells what is not measured; None: those that are kept of each GPU.
    """

    recording: Path | None = None
    seconds: float | None = None
    window_s: float | None = None
    pace: float = 0.0
    out: Path | None = None
    overwrite: bool = False
    most_calls_s: int = MOST_CALLS_S
    fingerprint: Path | None = None

    @property
    def window(self) -> float:
        """Seconds."""
        longest = WINDOW_S if self.seconds is None else min(self.seconds, LONGEST_WINDOW_S)
        return longest if self.window_s is None else self.window_s


class Clocks(NamedTuple):
    """A clock in seconds, and how to wait."""

    now_s: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep


def watch(
    asked: WatchAsked,
    show: Show = lambda _: None,
    *,
    learn: Learn = lambda _: None,
    say: Say = silent,
    clocks: Clocks | None = None,
) -> WatchNow:
    """Watches until it is over, and tells ``show`` each state. Returns the last one, and keeps it where asked, also
    when it is interrupted. ``learn`` gets each piece.

    SetupError for what this node lacks, DataError for what is no recording, UsageError for a directory that holds
    something else, MeasurementError where the disk is full.
    """
    if asked.out is not None:
        _check_out(asked.out, overwrite=asked.overwrite)
    source, node, lost = _source(asked)
    with source, contextlib.ExitStack() as kept:
        last: WatchNow | None = None
        writer = None
        if asked.out is not None:
            writer = kept.enter_context(_writer(asked.out, node))
        try:
            for state in states(_told(source, writer, learn), node, asked, clocks or Clocks(), lost):
                last = state
                show(state)
        finally:
            if asked.out is not None and last is not None:
                _keep(last, asked.out, say)
    if last is None:
        raise DataError("nothing was seen: the recording holds no time at all", "record again: kts watch --out")
    return last


def _told(source: CallSource, writer: PieceWriter | None, learn: Learn) -> Iterator[Piece]:
    """Its pieces, written down and told."""
    for piece in source.pieces():
        if writer is not None:
            writer.write(piece)
        learn(piece)
        yield piece


def states(
    pieces: Iterable[Piece], node: str, asked: WatchAsked, clocks: Clocks, lost: Lost = tuple
) -> Iterator[WatchNow]:
    """What is known, every `EVERY_S` or less often, and at the end, all of it made anew. A recording keeps its pace."""
    driver = driver_version if asked.recording is None else str
    shared = watch_turns.known(asked.fingerprint, driver)
    foretell, turns = watch_turns.model(shared, driver), watch_turns.turns(shared)
    watching = Watching(node, window_s=max(1, round(asked.window)), foretell=foretell, turns=turns)
    began_ns, began_s, told_s, asked_s = None, clocks.now_s(), float("-inf"), float("-inf")
    for piece in pieces:
        if began_ns is None:
            began_ns = int(piece.calls["ns"][0]) if len(piece.calls) else piece.until_ns
        if asked.recording is not None and asked.pace > 0:
            ahead_s = (piece.until_ns - began_ns) / NS_PER_S / asked.pace - (clocks.now_s() - began_s)
            if ahead_s > 0:
                clocks.wait(ahead_s)
        watching.take(piece)
        if clocks.now_s() - asked_s >= LOST_S:
            asked_s = clocks.now_s()
            _tell_lost(watching, lost(), piece.until_ns)
        if clocks.now_s() - told_s >= EVERY_S:
            told_s = clocks.now_s()
            yield _so_far(watching.now(), began_ns)
        if asked.seconds is not None and piece.until_ns - began_ns >= asked.seconds * NS_PER_S:
            break
    if began_ns is not None:
        yield _so_far(watching.now(whole=True), began_ns)


def _tell_lost(watching: Watching, gpus: Iterable[str], at_ns: int) -> None:
    """Each GPU that is lost, to each unit on it, or to nobody in particular."""
    for gpu in gpus:
        units = [one.unit for one in watching.now().units if gpu in one.gpu]
        for unit in units or [""]:
            watching.tell(
                Happened(at_ns=at_ns, what="gpu-lost", unit=unit, words=f"{gpu} is lost: NVML no longer reaches it")
            )


def _so_far(state: WatchNow, began_ns: int) -> WatchNow:
    """In the beginning figures are about less than a window."""
    return replace(state, window_s=min(state.window_s, max(1.0, (state.at_ns - began_ns) / NS_PER_S)))


def screen(console: Console, asked: WatchAsked) -> Screen:
    """Where states are shown to people."""
    return Screen(console, endless=asked.seconds is None and asked.recording is None)


def serve_watch(asked: WatchAsked, address: str, *, say: Say = silent, events: bool = False) -> None:
    """Watches, and answers at ``address`` with metrics and a page until it is interrupted; a recording's last state
    stays. ``events``: what happens to a pod becomes an event of it. UsageError, SetupError for what is no address, or
    taken, or no cluster; others as of `watch`."""
    host, port = address_of(address)
    board, over = Board(__version__), False
    pods = _PodsTold(say) if events else None
    server = serve(board, host, port, __version__, ended=lambda: over)
    where = f"[{host}]" if ":" in host else host or socket.gethostname()
    say(f"serving http://{where}:{server.server_port}/ and /metrics")

    def put(state: WatchNow) -> None:
        for one in board.put(state):
            say(f"{one.unit}: {one.words}" if one.unit else one.words)
            if pods is not None:
                pods.tell(one)

    try:
        watch(asked, put, learn=pods.learn if pods else lambda _: None, say=say)
        over = True
        say("what was asked for is over; its last state is served until Ctrl-C")
        while True:
            time.sleep(3600)
    finally:
        server.shutdown()
        server.server_close()


class _PodsTold:
    """What happens to a pod, as an event of it. SetupError outside of a cluster."""

    def __init__(self, say: Say) -> None:
        from kts.k8s.cluster.api import Api
        from kts.k8s.cluster.podevents import PodEvents

        self._events = PodEvents(Api.connect(None), _node())
        self._say = say
        self._problem = ""
        self._processes: dict[int, WatchedProcess] = {}

    def learn(self, piece: Piece) -> None:
        """Who is there."""
        self._processes.update({one.number: one for one in piece.processes})
        for number in piece.gone:
            self._processes.pop(number, None)

    def tell(self, happened: Happened) -> None:
        """To the pod, if it is one."""
        process = next((one for one in self._processes.values() if one.unit == happened.unit), None)
        if process is not None:
            self._events.tell(happened, process)
        if self._events.problem != self._problem:
            self._problem = self._events.problem
            self._say(f"note: events of pods: {self._problem or 'taken again'}")


def _source(asked: WatchAsked) -> tuple[CallSource, str, Lost]:
    """Where calls come from, of which node, and who tells which GPUs are lost."""
    if asked.recording is not None:
        path = asked.recording / RECORDING if asked.recording.is_dir() else asked.recording
        recorded = RecordedSource(path)
        return recorded, recorded.head.node or "a node", tuple
    from kts.k8s.cluster.podnames import names_here
    from kts.telemetry.computing import ComputingProcesses
    from kts.telemetry.lost import LostGpus
    from kts.watch.source import LiveSource

    return (
        LiveSource(names_here(os.environ), ComputingProcesses(), most_calls_s=asked.most_calls_s),
        _node(),
        LostGpus(),
    )


def _node() -> str:
    """This one's name."""
    return os.environ.get(ENV_NODE) or socket.gethostname()


def _check_out(out: Path, *, overwrite: bool) -> None:
    """UsageError where something else would be lost."""
    if out.is_dir() and any(out.iterdir()) and not (overwrite and is_watch(out)):
        what = "a watch already" if is_watch(out) else "something else"
        remedy = "add --overwrite, or choose another directory" if is_watch(out) else "choose another directory"
        raise UsageError(f"{out}: holds {what}", remedy)


def _writer(out: Path, node: str) -> PieceWriter:
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (STATE, RECORDING):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise SetupError(f"{out}: {error.strerror}", "give a directory that you may write to with --out") from error
    return PieceWriter(out / RECORDING, node=node, kts=__version__, boot_id=boot_id())


def _keep(state: WatchNow, out: Path, say: Say) -> None:
    try:
        files.replace(out / STATE, files.encode(state))
    except OSError as error:
        raise SetupError(f"{out / STATE}: {error.strerror}", f"kts watch --from {out} makes it again") from error
    for path in write_watch(state, out, __version__):
        say(f"wrote {path}")
