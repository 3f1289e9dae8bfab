"""Whether a program is traced, by what, and why nothing is seen of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from kts.model.plan import Program
from kts.worker.tracing.build import library
from kts.worker.tracing.cupti import cupti
from kts.worker.tracing.layout import State
from kts.worker.tracing.reader import Tracing

_BROUGHT = ("KTS_TRACE_DIR", "KTS_TRACE_LIBRARY", "KTS_CUPTI")


class Tracer(NamedTuple):
    """``tracing``: None where the program is not traced. ``env``: to be added to its environment."""

    tracing: Tracing | None = None
    env: Mapping[str, str] = {}
    why: str = ""

    def unseen(self) -> str:
        """Why no call of the program to the GPU is seen; empty where some are."""
        if self.tracing is None or self.tracing.why:
            return self.why if self.tracing is None else self.tracing.why
        processes = self.tracing.processes
        if any(process.calls for process in processes):
            return ""
        refused = [process.why for process in processes if process.state is State.REFUSED and process.why]
        begun = "it has not used CUDA yet" if processes else "no process of it has begun to use CUDA"
        return refused[0] if refused else begun


def tracer_for(work: Program, *, on_gpu: bool, given: Mapping[str, str], beside: bool) -> Tracer:
    """For a program that gets the environment ``given``. Nothing in here fails: it runs on untraced.

    ``beside``: it runs in a container beside this one. Both then have a volume, at the same place: this process's
    KTS_TRACE_DIR names the folder for the trace, KTS_TRACE_LIBRARY and KTS_CUPTI what was brought there to be loaded.
    """
    if work.trace == "off":
        return Tracer(why="trace: off")
    if work.trace == "auto" and not on_gpu:
        return Tracer(why="its device is no GPU, and only trace: calls looks there")
    if beside:
        brought = {name: Path(os.environ[name]) for name in _BROUGHT if os.environ.get(name)}
        if "KTS_TRACE_DIR" not in brought or "KTS_TRACE_LIBRARY" not in brought:
            return Tracer(why="nothing was brought into its container to look by")
        tracing = Tracing(folder=brought["KTS_TRACE_DIR"])
        env = tracing.env(given, brought["KTS_TRACE_LIBRARY"], brought.get("KTS_CUPTI"))
        return Tracer(tracing, env)
    built = library()
    if built.path is None:
        return Tracer(why=built.why)
    tracing = Tracing()
    return Tracer(tracing, tracing.env(given, built.path, cupti(work.command, given).path))
