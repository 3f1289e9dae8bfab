"""The probe: when a device was taken away and given back, seen from a program that does nothing but read its clock.

`Probe` is one process's presence on the device, alone or as a neighbour of another. `cuda.py` and `cpu.py` are it on
a GPU and on a CPU core, `serve.py` is its process, `neighbours.py` starts such processes and speaks with them,
`session.py` and `who.py` say what they do, `gaps.py` reads what they saw. The model: docs/physics.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # numpy must wait until the process is pinned
    from kts.model.run import DeviceInfo
    from kts.worker.detect import DeviceKind
    from kts.worker.probe.traces import GapTrace, Pair


class Probe(Protocol):
    """One process on the device. All times are nanoseconds of one clock, which every process there reads.

    One contract, tests/contract/test_worker_probe.py, holds for all.
    """

    def info(self) -> DeviceInfo:
        """What it is, by its honest name; ``stopwatch`` is the clock, ``library`` what made the code."""

    def ticks(self, n: int) -> list[int]:
        """``n`` readings of the clock, one right after the other."""

    def watch(self, seconds: float, *, threshold_ns: int, enough: int | None = None) -> GapTrace:
        """Reads the clock for that long, or until ``enough`` gaps of at least ``threshold_ns`` were seen."""

    def saturate(self, threshold_ns: int, started: Callable[[], None], stop: Callable[[float], bool]) -> GapTrace:
        """Keeps the whole device busy until ``stop(most)``; what it saw meanwhile.

        ``stop`` may sleep for ``most`` seconds before it answers. ``started()`` is called once the device has really
        run some of the work, of which there is always more queued.
        """

    def bursts(self, length_ns: int, go_on: Callable[[], bool]) -> list[Pair]:
        """Keeps the whole device busy for ``length_ns`` per True of ``go_on()``; when each began and ended."""

    def chain(self, n: int, length_ns: int) -> list[Pair]:
        """``n`` small pieces of work, all queued before the first has ended; when each began and ended."""

    def pulse(self) -> int:
        """Host time from submitting next to nothing until it is complete."""

    def close(self) -> None:
        """Gives back what it holds."""


def open_probe(kind: DeviceKind) -> Probe:
    """The probe of the first visible device. SetupError if that cannot be."""
    if kind == "cpu":
        from kts.worker.probe.cpu import CpuProbe

        return CpuProbe()
    from kts.worker.probe.cuda import CudaProbe

    return CudaProbe()
