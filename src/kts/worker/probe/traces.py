"""What a probe saw, as frozen values: the content of a readings file."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from kts.model.run import DeviceInfo

READINGS_VERSION = 1

Pair = tuple[int, int]
Ints = NDArray[np.int64]


class GapTrace(msgspec.Struct, frozen=True, kw_only=True):
    """One process's view of the device, nanoseconds of the device's clock.

    ``gaps``: (last reading before, length), in order. ``lost``: further gaps, for which there was no room; then
    only the time up to the last one kept counts.
    """

    start_ns: int
    end_ns: int
    gaps: tuple[Pair, ...] = ()
    lost: int = 0

    @property
    def array(self) -> Ints:
        """Start and length of each gap, shape ``(n, 2)``."""
        return np.array(self.gaps, dtype=np.int64).reshape(-1, 2)

    @property
    def until_ns(self) -> int:
        """End of what is known."""
        return sum(self.gaps[-1]) if self.lost and self.gaps else self.end_ns


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """The watcher beside ``neighbours`` of its own, all saturating, and what these saw themselves."""

    neighbours: int
    watched: GapTrace
    others: tuple[GapTrace, ...] = ()


class Bursts(msgspec.Struct, frozen=True, kw_only=True):
    """The watcher beside one neighbour that is busy for ``length_ns`` now and then: ``pairs`` of (begin, end)."""

    length_ns: int
    watched: GapTrace
    pairs: tuple[Pair, ...]


class Readings(msgspec.Struct, frozen=True, kw_only=True):
    """All that a fingerprint is made of.

    ``blip_ns``: a shorter gap is no other's turn. ``ticks``: consecutive readings of the clock. ``alone``: nobody
    invited. ``chain``: (begin, end) of kernels queued one behind the other. ``pulse_same_ns``, ``pulse_other_ns``:
    host time of next to nothing on an idle device whose last user was this process, or another one.
    """

    schema: int = READINGS_VERSION
    kts: str = ""
    device: DeviceInfo
    mode: str
    blip_ns: int
    ticks: tuple[int, ...]
    alone: GapTrace
    crowds: tuple[Crowd, ...] = ()
    bursts: tuple[Bursts, ...] = ()
    chain: tuple[Pair, ...] = ()
    pulse_same_ns: tuple[int, ...] = ()
    pulse_other_ns: tuple[int, ...] = ()
    created_ns: int | None = None  # CLOCK_REALTIME


class Looks(msgspec.Struct, frozen=True, kw_only=True):
    """What `who` saw: short ones, each begun at any moment of whoever is there, or one long watch."""

    device: DeviceInfo
    mode: str
    blip_ns: int
    kind: Literal["looks", "watch"]
    looks: tuple[GapTrace, ...]


BLIP_NS = {"cuda": 20_000, "cpu": 700_000, "other": 20_000}
"""By kind of device. On a CPU core interrupts and the kernel's own threads come in between; the shortest slice that
Linux grants is 0.7 ms."""


def threshold_ns(ticks: Ints, floor_ns: int = 20_000) -> int:
    """From which step on the clock's readings show a gap: 20 times the usual step, at least ``floor_ns``."""
    steps = np.diff(ticks)
    steps = steps[steps > 0]
    return max(floor_ns, 20 * int(np.median(steps))) if len(steps) else floor_ns
