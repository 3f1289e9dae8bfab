"""What is injected, upon whom, and which causes are right answers then."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from bench.injectors import cgroups
from bench.injectors.machine import hog_slows, keeps_to_cores, siblings, siblings_somewhere
from bench.injectors.stage import Device, Stage, Victim
from kts.errors import SetupError
from kts.model.causes import CauseName

Play = Callable[[Stage], AbstractContextManager[None]]
HOG_SLOWS = 1.2
"""A hog that slows a copy by less, on this machine, is none."""


def _nothing_against(device: Device) -> str:
    del device
    return ""


@dataclass(frozen=True)
class Injection:
    """``right``: causes of which one has to stand first (``on_gpu``: there, where that is stricter); empty: none may be
    claimed. ``victims``: by device, none where it makes no sense there. ``why_not``: why it cannot be done on this
    machine, empty if it can."""

    right: frozenset[CauseName]
    play: Play
    victims: Mapping[Device, tuple[Victim, ...]]
    why_not: Callable[[Device], str] = _nothing_against
    on_gpu: frozenset[CauseName] = frozenset()

    def answered(self, device: Device, first: str) -> bool:
        """Whether the cause that was put first, or none (empty), is right."""
        right = (self.on_gpu if device == "cuda" else None) or self.right
        return first in right if right else not first


def _by(prepare: Callable[[Stage], None]) -> Play:
    def play(stage: Stage) -> AbstractContextManager[None]:
        prepare(stage)
        return nullcontext()

    return play


def _name() -> str:
    return f"kts-injection-{uuid.uuid4().hex[:8]}"


# ---- who takes the core


def _stranger(stage: Stage) -> None:
    """Computes as long as it can, as a tenant would that nobody invited. Beside a GPU: on it."""
    if stage.device == "cuda":
        stage.others.append(stage.uninvited(launch_ms=stage.drawn("launch_ms", 2, 8)))
    else:
        stage.acts("thief", stage.cores, burst_us=round(1e3 * stage.drawn("burst_ms", 8, 20)), gap_us=0)


def _thief(stage: Stage) -> None:
    burst_us, busy = 1e3 * stage.drawn("burst_ms", 3, 6), stage.drawn("busy", 0.6, 0.85)
    stage.acts("thief", stage.cores, burst_us=round(burst_us), gap_us=round(burst_us * (1 - busy) / busy))


def _no_thief(device: Device) -> str:
    del device
    if not Path("/proc/self/schedstat").exists():
        return "this kernel does not tell how long a thread waits for a core"
    return "" if keeps_to_cores() else "this kernel does not keep processes on the cores that they are told"


def _busy_sibling(stage: Stage) -> None:
    stage.acts("thief", siblings(stage.cores), burst_us=20_000, gap_us=0)


def _no_sibling(device: Device) -> str:
    del device
    return "" if siblings_somewhere() else "no core here shows two hardware threads"


@contextmanager
def _quota(stage: Stage) -> Iterator[None]:
    with cgroups.quota(_name(), stage.drawn("share", 0.12, 0.25)) as switch:
        stage.switched(switch)
        yield


def _no_quota(device: Device) -> str:
    del device
    try:
        with cgroups.quota(_name(), 0.5):
            return ""
    except SetupError as error:
        return error.what


# ---- what is in its way


def _launch_path(stage: Stage) -> None:
    stage.beat.asks(launch_us=round(stage.drawn("launch_us", 100, 300)))


def _between(stage: Stage) -> None:
    stage.beat.asks(sleep_us=round(1e3 * stage.drawn("sleep_ms", 2, 4)))


def _hogs(stage: Stage) -> None:
    stage.acts("hog", stage.spare, mb=256)


def _no_hog(device: Device) -> str:
    del device
    slower = hog_slows()
    return "" if slower >= HOG_SLOWS else f"hogs on all other cores slow a copy by {slower - 1:.0%} here"


@contextmanager
def _disk(stage: Stage) -> Iterator[None]:
    stage.prepare_file()
    with cgroups.disk_limit(_name(), stage.file, round(stage.drawn("reads_per_s", 150, 400))) as switch:
        stage.switched(switch)
        yield


def _busy_disk(stage: Stage) -> None:
    """Others read and write past the page cache, too."""
    for _ in range(round(stage.drawn("others", 4, 8))):
        stage.acts("disk", stage.spare[:1], file=stage.file, kb=1024)


# ---- neighbours


def _long_kernels(stage: Stage) -> None:
    ms = stage.drawn("kernel_ms", 5, 10)
    if stage.victim == "traced":
        stage.company = stage.program("gpu", trips=1, kernel_us=round(1e3 * ms), host_work=20, think_us=round(5e2 * ms))
    elif stage.device == "cuda":
        stage.company = {"workload": "gemm", "target_ms": 2 * ms}
    else:
        stage.company = {"workload": "gemm", "size": 512, "think_ms": 3}


def _short_kernels(stage: Stage) -> None:
    launches = round(stage.drawn("launches", 30, 60))
    if stage.victim == "traced":
        stage.company = stage.program("gpu", trips=launches, kernel_us=100, host_work=20, think_us=1000)
    elif stage.device == "cuda":
        stage.company = {"workload": "decode", "layers": 12}
    else:
        stage.company = {"workload": "fft", "size": 64}


def _works_elsewhere(stage: Stage) -> None:
    """On another core, and of programs on another GPU."""
    if stage.victim == "traced" and stage.device == "cpu":
        stage.company = stage.program("another", trips=1, kernel_us=2000, think_us=10_000)
    else:
        stage.company = stage.neighbour(work_us=round(1e3 * stage.drawn("work_ms", 0.2, 1)), period_us=5000)


def _paused(stage: Stage) -> None:
    stage.company = stage.neighbour("paused")


_ALL: tuple[Victim, ...] = ("ours", "open", "traced", "reader")
_TURNS: frozenset[CauseName] = frozenset({"first-turn", "turns", "contended", "beside"})
_CORE: frozenset[CauseName] = frozenset({"core", "uninvited"})
"""On the CPU the core is the device: who takes it is both."""

INJECTIONS: dict[str, Injection] = {
    "uninvited neighbour": Injection(
        _CORE, _by(_stranger), {"cpu": ("ours",), "cuda": ("ours",)}, on_gpu=frozenset({"uninvited"})
    ),
    "thief on the core": Injection(
        _CORE, _by(_thief), {"cpu": ("traced", "ours"), "cuda": ("traced",)}, _no_thief, frozenset({"core"})
    ),
    "CPU quota": Injection(frozenset({"quota"}), _quota, {"cpu": ("ours", "traced"), "cuda": ("traced",)}, _no_quota),
    "busy sibling thread": Injection(
        frozenset({"sibling"}), _by(_busy_sibling), {"cpu": ("ours",), "cuda": ("traced",)}, _no_sibling
    ),
    "delay in the launch path": Injection(
        frozenset({"launch"}), _by(_launch_path), {"cpu": ("traced",), "cuda": ("traced",)}
    ),
    "delay between iterations": Injection(frozenset({"between"}), _by(_between), {"cpu": ("open",), "cuda": ("open",)}),
    "bandwidth hog": Injection(
        frozenset({"slower-memory", "slower"}), _by(_hogs), {"cpu": ("memory",), "cuda": ()}, _no_hog
    ),
    "slower disk": Injection(frozenset({"disk"}), _disk, {"cpu": ("reader",), "cuda": ("reader",)}, _no_quota),
    "busy disk": Injection(frozenset({"disk"}), _by(_busy_disk), {"cpu": ("reader",), "cuda": ("reader",)}),
    "long kernels": Injection(_TURNS, _by(_long_kernels), {"cpu": ("traced", "ours"), "cuda": ("traced", "ours")}),
    "many short kernels": Injection(
        _TURNS, _by(_short_kernels), {"cpu": ("traced", "ours"), "cuda": ("traced", "ours")}
    ),
    "paused neighbour": Injection(frozenset(), _by(_paused), {"cpu": _ALL, "cuda": _ALL}),
    "clean": Injection(frozenset(), _by(_works_elsewhere), {"cpu": _ALL, "cuda": _ALL}),
}
"""By name. ``paused neighbour`` and ``clean`` are those of which nothing may be claimed."""
