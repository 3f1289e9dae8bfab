"""Whether a program is traced, by what, and why nothing is seen of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from kts.errors import SetupError
from kts.model.plan import Program
from kts.worker.tracing.build import library
from kts.worker.tracing.cupti import cupti
from kts.worker.tracing.reader import CAPACITY, Tracing
from kts.worker.tracing.ring import LARGEST_CAPACITY

_BROUGHT = ("KTS_TRACE_DIR", "KTS_TRACE_LIBRARY", "KTS_CUPTI")


class ProgramTracer(NamedTuple):
    """``tracing``: None where the program is not traced. ``env``: to be added to its environment."""

    tracing: Tracing | None = None
    env: Mapping[str, str] = {}
    why: str = ""

    def unseen(self) -> str:
        """Why no call of the program to the GPU is seen; empty where some are."""
        return self.why if self.tracing is None else self.tracing.unseen()

    @property
    def holds(self) -> bool:
        """The program is held at its gate, as far as is known before it has begun."""
        return self.tracing is not None and not self.tracing.why

    def notes(self) -> tuple[str, ...]:
        """What is not seen, a line each."""
        return (f"its launches are not seen: {self.why}",) if self.tracing is None else self.tracing.notes()


def tracer_for(work: Program, *, on_gpu: bool, given: Mapping[str, str], beside: bool) -> ProgramTracer:
    """For a program that gets the environment ``given``. Where it cannot be traced it runs on untraced.

    ``beside``: it runs in a container beside this one. Both then have a volume, at the same place: this process's
    KTS_TRACE_DIR names the folder for the trace, KTS_TRACE_LIBRARY and KTS_CUPTI what was brought there to be loaded.

    SetupError where KTS_TRACE_EVENTS is no number of events.
    """
    if work.trace == "off":
        return ProgramTracer(why="trace: off")
    if work.trace == "auto" and not on_gpu:
        return ProgramTracer(why="its device is no GPU, and only trace: calls looks there")
    if beside:
        brought = {name: Path(os.environ[name]) for name in _BROUGHT if os.environ.get(name)}
        if "KTS_TRACE_DIR" not in brought or "KTS_TRACE_LIBRARY" not in brought:
            return ProgramTracer(why="nothing was brought into its container to look by")
        tracing = Tracing(_capacity(given), folder=brought["KTS_TRACE_DIR"])
        env = tracing.env(given, brought["KTS_TRACE_LIBRARY"], brought.get("KTS_CUPTI"))
        return ProgramTracer(tracing, env)
    built = library()
    if built.path is None:
        return ProgramTracer(why=built.why)
    tracing = Tracing(_capacity(given))
    return ProgramTracer(tracing, tracing.env(given, built.path, cupti(work.command, given).path))


def _capacity(given: Mapping[str, str]) -> int:
    """Events that a ring holds: KTS_TRACE_EVENTS, rounded up to a power of two."""
    text = given.get("KTS_TRACE_EVENTS", str(CAPACITY))
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text[:12]) <= LARGEST_CAPACITY:
        raise SetupError(
            f"KTS_TRACE_EVENTS={text!r} is not a number of events up to {LARGEST_CAPACITY}",
            "for example KTS_TRACE_EVENTS: '262144'",
        )
    return 1 << (int(text) - 1).bit_length()
