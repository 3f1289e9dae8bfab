"""NVML: how busy the whole device was, its clocks and its power. Device-scoped, needs no privilege.

Utilisation is the share of NVML's own sample period (between 1/6 s and 1 s, which one it does not tell) in which any
kernel ran, or device memory was read or written: a device with one busy SM is 100 % busy. It is not SM activity.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from typing import Any

from kts.model.telemetry import Sample, SourceState
from kts.telemetry.source import SourceMissingError, samples_at

Readings = dict[str, float]
"""Metric to value."""


def load_nvml() -> Any:
    """The module ``pynvml`` (nvidia-ml-py). SourceMissingError if it is not installed."""
    try:
        import pynvml
    except ImportError as error:
        raise SourceMissingError(f"nvidia-ml-py is not installed ({error})") from error
    return pynvml


_MIG_BEFORE_R470 = re.compile(r"MIG-(GPU-[0-9A-Fa-f-]+)/(\d+)/\d+")
"""Older drivers name the GPU, the GPU instance and the compute instance."""


def mig_instance(uuid: str, nvml: Any = None) -> tuple[str, str] | None:
    """(UUID of the GPU, number of the GPU instance) of the MIG device ``uuid``; None where NVML does not tell it."""
    if named := _MIG_BEFORE_R470.fullmatch(uuid):
        return named[1], named[2]
    try:
        nvml = nvml or load_nvml()
    except SourceMissingError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        instance = nvml.nvmlDeviceGetGpuInstanceId(handle)
        return str(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle))), str(instance)
    except nvml.NVMLError:
        return None
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


_LIMITS = (
    "limited_power_ratio",
    "limited_hw_ratio",
    "limited_thermal_ratio",
    "limited_hw_thermal_ratio",
    "limited_power_brake_ratio",
)
"""The reasons that nobody chose."""


class NvmlBacked:
    """What sources over NVML share. ``nvml``: the module, given in tests."""

    remote = False

    def __init__(self, nvml: Any = None, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._nvml = nvml
        self._clock = clock
        self._handle: Any = None
        self._uuid = ""

    def _open_device(self, uuid: str) -> Any:
        """Takes NVML's handle of the GPU; the module. `close` is then to be called. SourceMissingError."""
        nvml = self._nvml = self._nvml or load_nvml()
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            raise SourceMissingError(f"NVML does not start here: {error}") from error
        try:
            self._handle, self._uuid = nvml.nvmlDeviceGetHandleByUUID(uuid), uuid
        except nvml.NVMLError as error:
            self._shut_down()
            raise SourceMissingError(f"NVML shows no GPU {uuid} here: {error}") from error
        return nvml

    def close(self) -> None:
        """See Source."""
        if self._handle is not None:
            self._handle = None
            self._shut_down()

    def _shut_down(self) -> None:
        with contextlib.suppress(self._nvml.NVMLError):  # nothing depends on it
            self._nvml.nvmlShutdown()


class NvmlSource(NvmlBacked):
    """`kts.telemetry.source.Source`."""

    name = "nvml"

    def __init__(self, nvml: Any = None, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        super().__init__(nvml, clock=clock)
        self._readers: list[Callable[[], Readings]] = []
        self._offered: int | None = None
        self._state = SourceState(source=self.name)

    def open(self, uuid: str) -> SourceState:
        """See Source. Readings that the GPU or its driver does not offer are left out and named."""
        self._open_device(uuid)
        offered = {
            "utilisation": self._utilisation,
            "SM clock": lambda: self._clock_mhz("sm_clock_mhz", self._nvml.NVML_CLOCK_SM),
            "memory clock": lambda: self._clock_mhz("memory_clock_mhz", self._nvml.NVML_CLOCK_MEM),
            "power": self._instant_power,
            "power limit": self._power_limit,
            "clock event reasons": self._clocks_limited,
        }
        metrics: list[str] = []
        notes: list[str] = []
        for what, read in offered.items():
            try:
                metrics += read()
                self._readers.append(read)
            except self._nvml.NVMLError as error:
                if what == "power" and (average := self._try(self._average_power)):
                    metrics += average
                    self._readers.append(self._average_power)
                    notes.append("power as NVML averages it, over up to 1 s")
                else:
                    notes.append(f"no {what}: {error}")
        if not metrics:
            self.close()
            raise SourceMissingError(f"NVML gives nothing of {uuid}: {'; '.join(notes)}")
        self._state = SourceState(source=self.name, metrics=tuple(metrics), note="; ".join(notes))
        return self._state

    def sample(self) -> list[Sample]:
        """See Source. A reading that fails once is left out; SourceMissingError if all fail."""
        t_ns = self._clock()
        values: Readings = {}
        failure: Exception | None = None
        for read in self._readers:
            try:
                values |= read()
            except self._nvml.NVMLError as error:
                failure = error
        if failure is not None and not values:
            raise SourceMissingError(f"NVML stopped answering: {failure}")
        return samples_at(t_ns, 0, source=self.name, scope="device", subject=self._uuid, values=values)

    def state(self) -> SourceState:
        """See Source."""
        return self._state

    def _try(self, read: Callable[[], Readings]) -> Readings:
        try:
            return read()
        except self._nvml.NVMLError:
            return {}

    def _utilisation(self) -> Readings:
        rates = self._nvml.nvmlDeviceGetUtilizationRates(self._handle)
        return {"gpu_busy_ratio": rates.gpu / 100, "memory_busy_ratio": rates.memory / 100}

    def _clock_mhz(self, metric: str, which: int) -> Readings:
        return {metric: float(self._nvml.nvmlDeviceGetClockInfo(self._handle, which))}

    def _instant_power(self) -> Readings:
        """nvmlDeviceGetPowerUsage is an average over 1 s on most GPUs; this one belongs to its moment."""
        field = self._nvml.nvmlDeviceGetFieldValues(self._handle, [self._nvml.NVML_FI_DEV_POWER_INSTANT])[0]
        if field.nvmlReturn != self._nvml.NVML_SUCCESS:
            raise self._nvml.NVMLError(field.nvmlReturn)
        return {"power_w": field.value.uiVal / 1000}

    def _average_power(self) -> Readings:
        return {"power_w": self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1000}

    def _power_limit(self) -> Readings:
        """What it may draw: the least of all limits in force."""
        return {"power_limit_w": self._nvml.nvmlDeviceGetEnforcedPowerLimit(self._handle) / 1000}

    def _clocks_limited(self) -> Readings:
        """Of each reason that this GPU can tell: 1 while it holds the clocks down, else 0, so that a mean is a share of
        time; and whether power, heat or the hardware itself does."""
        told = self._nvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle)
        offered = self._reasons_offered()
        found = {metric: float(bool(told & bit)) for metric, bit in self._reasons().items() if bit & offered}
        limited = any(found.get(metric) for metric in _LIMITS)
        return {"clocks_limited_ratio": float(limited), **found}

    def _reasons(self) -> dict[str, int]:
        nvml = self._nvml
        return {
            "limited_power_ratio": nvml.nvmlClocksEventReasonSwPowerCap,
            "limited_hw_ratio": nvml.nvmlClocksEventReasonHwSlowdown,
            "limited_thermal_ratio": nvml.nvmlClocksEventReasonSwThermalSlowdown,
            "limited_hw_thermal_ratio": nvml.nvmlClocksEventReasonHwThermalSlowdown,
            "limited_power_brake_ratio": nvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
            "limited_sync_boost_ratio": nvml.nvmlClocksEventReasonSyncBoost,
            "limited_settings_ratio": nvml.nvmlClocksEventReasonApplicationsClocksSetting,
        }

    def _reasons_offered(self) -> int:
        """Bits of the reasons that this GPU can tell; asked once. All, where it does not say."""
        if self._offered is None:
            self._offered = -1
            with contextlib.suppress(self._nvml.NVMLError, AttributeError):
                self._offered = int(self._nvml.nvmlDeviceGetSupportedClocksEventReasons(self._handle))
        return self._offered
