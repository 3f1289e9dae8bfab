"""Which GPU the container beside this one has, without its driver's help: nothing of ours runs there but the launcher.

The device plugin names it in NVIDIA_VISIBLE_DEVICES, or, in CDI mode, only gives the container its files in /dev. The
driver tells every container of the node which number has which UUID.
"""

from __future__ import annotations

from pathlib import Path

from kts.errors import SetupError
from kts.model.plan import PROGRAM
from kts.model.run import DeviceInfo
from kts.worker.detect import driver_version

_DRIVER = Path("/proc/driver/nvidia")
_FIRST = ("GPU-", "MIG-")


def gpu_of(told: tuple[str, tuple[int, ...]], stopwatch: str, driver: Path = _DRIVER) -> DeviceInfo:
    """The first GPU of the container that said so (`kts.worker.launcher.remote.Launcher.gpus`).

    SetupError where it has none, or nothing tells which.
    """
    visible, numbers = told
    named = [one for one in visible.split(",") if one.startswith(_FIRST)]
    there = _driver_says(driver)
    if not (named or numbers):
        raise SetupError(
            "the program's container has no GPU: no /dev/nvidia0, and no NVIDIA_VISIBLE_DEVICES that names one",
            "see what the pod was given: --resource, --runtime-class; or set device: cpu",
        )
    uuid = named[0] if named else next((there[number][0] for number in numbers if number in there), "")
    if not uuid:
        raise SetupError(
            f"the program's container has /dev/nvidia{numbers[0]}, and {driver} does not tell which GPU that is",
            "see whether the node's driver is whole: nvidia-smi there",
        )
    name = next((model for own, model in there.values() if own == uuid), "NVIDIA GPU")
    return DeviceInfo(
        kind="cuda",
        uuid=uuid,
        name=f"{name} MIG device" if uuid.startswith("MIG-") else name,
        label=name,
        library=PROGRAM,
        library_version="",
        driver=driver_version() or _version(driver),
        stopwatch=stopwatch,
    )


def _driver_says(driver: Path) -> dict[int, tuple[str, str]]:
    """(UUID, model) by number in /dev; empty where the driver's files are not there."""
    found = {}
    for path in sorted(driver.glob("gpus/*/information")):
        fields = dict(_field(line) for line in _text(path).splitlines())
        if (number := fields.get("Device Minor", "")).isdecimal():
            found[int(number)] = (fields.get("GPU UUID", ""), fields.get("Model", "NVIDIA GPU"))
    return found


def _field(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), value.strip()


def _version(driver: Path) -> str:
    words = _text(driver / "version").partition("Kernel Module")[2].split()
    return next((word for word in words if word[0].isdecimal()), "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
