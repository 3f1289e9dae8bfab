"""What of a process is watched: calls into the driver's library, in pieces. Pure.

A source (live, or a recording) gives pieces in the order of their ``until_ns``. All times are CLOCK_MONOTONIC
nanoseconds of the node.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from kts.worker.tracing.layout import Flag, Kind

CALL = np.dtype(
    [
        ("ns", "<i8"),
        ("process", "<u4"),  # `WatchedProcess.number`
        ("thread", "<u4"),  # as the node's own namespace has it
        ("function", "<u2"),  # index into `FUNCTIONS`
        ("returned", "<u2"),  # 0: it was called, 1: it returned
    ]
)

Array = NDArray[np.void]


class Function(NamedTuple):
    """A function of libcuda. ``flags`` as in the tracer's events; only those that wait are seen to ``return``."""

    name: str
    kind: Kind
    flags: Flag = Flag(0)

    @property
    def waits(self) -> bool:
        """Whether the host may be held until the GPU is done, so that its return says something."""
        return self.kind == Kind.WAIT or Flag.WAITED in self.flags


FUNCTIONS: tuple[Function, ...] = (
    Function("cuLaunchKernel", Kind.LAUNCH),
    Function("cuLaunchKernel_ptsz", Kind.LAUNCH),
    Function("cuLaunchKernelEx", Kind.LAUNCH),
    Function("cuLaunchKernelEx_ptsz", Kind.LAUNCH),
    Function("cuLaunchCooperativeKernel", Kind.LAUNCH),
    Function("cuLaunchCooperativeKernel_ptsz", Kind.LAUNCH),
    Function("cuGraphLaunch", Kind.GRAPH),
    Function("cuGraphLaunch_ptsz", Kind.GRAPH),
    Function("cuMemcpyHtoDAsync_v2", Kind.COPY),
    Function("cuMemcpyHtoDAsync_v2_ptsz", Kind.COPY),
    Function("cuMemcpyDtoHAsync_v2", Kind.COPY),
    Function("cuMemcpyDtoHAsync_v2_ptsz", Kind.COPY),
    Function("cuMemcpyDtoDAsync_v2", Kind.COPY),
    Function("cuMemcpyDtoDAsync_v2_ptsz", Kind.COPY),
    Function("cuMemcpyAsync", Kind.COPY),
    Function("cuMemcpyAsync_ptsz", Kind.COPY),
    Function("cuMemcpyHtoD_v2", Kind.COPY, Flag.WAITED),
    Function("cuMemcpyHtoD_v2_ptds", Kind.COPY, Flag.WAITED),
    Function("cuMemcpyDtoH_v2", Kind.COPY, Flag.WAITED),
    Function("cuMemcpyDtoH_v2_ptds", Kind.COPY, Flag.WAITED),
    Function("cuMemcpy", Kind.COPY, Flag.WAITED),
    Function("cuMemcpy_ptds", Kind.COPY, Flag.WAITED),
    Function("cuStreamSynchronize", Kind.WAIT),
    Function("cuStreamSynchronize_ptsz", Kind.WAIT),
    Function("cuEventSynchronize", Kind.WAIT),
    Function("cuCtxSynchronize", Kind.WAIT, Flag.ALL),
    Function("cuCtxSynchronize_v2", Kind.WAIT, Flag.ALL),
)
"""The numbers are written into recordings: append only. Which of them a library has is looked up in it."""


class WatchedProcess(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A process that computes. ``number``: never used twice in a recording, so that a reused pid is another one.

    ``began_ticks``: when it began, as /proc/PID/stat has it. ``container``, ``pod_uid``: from its cgroup; ``pod``,
    ``namespace``: from the kubelet. ``gpus``: UUIDs, from NVML. Each is empty where nobody tells.
    """

    number: int
    pid: int
    began_ticks: int
    command: str
    container: str = ""
    container_name: str = ""
    pod_uid: str = ""
    pod: str = ""
    namespace: str = ""
    gpus: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """What is told apart in figures: a container of a pod, another container, else the process."""
        if self.pod:
            return f"{self.namespace}/{self.pod}" + (f"/{self.container_name}" if self.container_name else "")
        if self.container:
            return f"container {self.container[:12]}"
        return f"{self.command} ({self.pid})"


class Piece(NamedTuple):
    """Everything up to ``until_ns`` that was not told before.

    ``calls``: CALL, by time. ``processes``: new ones, and those of which more is known than before. ``gone``: numbers
    of processes that ended. ``lost``: calls that found no room, of whom is not known. ``unwatched``: numbers of
    processes that are left out from now on, so as not to cost more than may be. ``notes``: for whoever reads on.
    """

    until_ns: int
    calls: Array
    processes: tuple[WatchedProcess, ...] = ()
    gone: tuple[int, ...] = ()
    lost: int = 0
    unwatched: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


class CallSource(Protocol):
    """Where calls come from: the running kernel, or a recording. A context: it detaches on exit."""

    def __enter__(self) -> CallSource: ...

    def __exit__(self, *why: Any) -> None: ...

    def pieces(self) -> Iterator[Piece]:
        """One after the other, about one a second of the node's time; ends where the recording does, or never."""
