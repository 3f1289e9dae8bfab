"""Devices: how work is timed and waited for. One contract, tests/contract/test_worker_device.py, holds for all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from kts.errors import SetupError
from kts.model.run import DeviceInfo
from kts.worker.detect import DeviceKind, LibraryName, StreamWish

if TYPE_CHECKING:
    from kts.worker.devices.cuda import OwnStream
    from kts.worker.traced import Event


class Tracer(AbstractContextManager[Any], Protocol):
    """Notes every launch while its context lasts. It slows the host."""

    name: str

    def mark(self) -> AbstractContextManager[Any]:
        """A context around one iteration, named `kts.worker.traced.MARK`."""

    def events(self) -> list[Event]:
        """What was noted, marks included; after the context."""


class Device(Protocol):
    """An open device with one stopwatch.

    One iteration: ``begin()``, the work, ``end()``, ``wait()``, and only then ``device_ms()``. Of these,
    ``wait`` alone may block on the device.
    """

    xp: Any
    """The array API namespace of its library."""

    @property
    def stream(self) -> OwnStream | None:
        """The stream of its own that it computes on; None: on its library's default one, or where there are none."""

    def info(self) -> DeviceInfo:
        """What it is, by its honest name."""

    def begin(self) -> None:
        """Starts the stopwatch, in the device's own order of work."""

    def end(self) -> None:
        """Stops the stopwatch, likewise."""

    def wait(self) -> None:
        """Returns once all work up to ``end`` is complete."""

    def device_ms(self) -> float:
        """What the stopwatch shows, milliseconds. Only after ``wait``."""

    def place(self, host_array: Any) -> Any:
        """A copy of a numpy array on the device."""

    def landing(self, array: Any) -> tuple[Any, Callable[[], object]]:
        """A host array, and a call that queues the copy of ``array`` into it: there after ``wait``."""

    def capture(self, operation: Callable[[], object]) -> Callable[[], object]:
        """The operation as one launch that replays what it queued. It must not wait, and run the same every time.

        SetupError where the device or its library cannot.
        """

    def free_bytes(self) -> int:
        """Memory that can still be taken."""

    def held_bytes(self) -> int | None:
        """Memory that this process's library holds on the device; None where it does not tell."""

    def tracer(self) -> Tracer | None:
        """A tracer of what is launched; None where there is none."""

    def release(self) -> None:
        """Gives back what the library keeps of arrays that nobody refers to."""


def open_device(kind: DeviceKind, library: LibraryName | None, wish: StreamWish | None = None) -> Device:
    """The device, opened. SetupError if library or driver do not work.

    ``wish``: the tenant is one of several threads of this process, and computes on a stream of its own, in the calling
    thread alone. None: it has the process to itself.
    """
    try:
        if kind == "cpu":
            from kts.worker.devices.cpu import Cpu

            return Cpu()
        if library == "torch":
            from kts.worker.devices.torch_cuda import TorchCuda

            return TorchCuda(wish)
        from kts.worker.devices.cupy_cuda import CupyCuda

        return CupyCuda(wish)
    except ImportError as error:
        raise SetupError(f"library {library} cannot be imported: {error}", f"reinstall {library}") from error
