"""What happens before a worker measures: cores, devices, settings, and how failures are named."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import Any

import pytest
from tests.helpers_worker import MS, FakeClock, FakeDevice

from kts.errors import KtsError, SetupError, SpecError, UsageError
from kts.model.plan import Decoder, Kernel, Library
from kts.wire.appline import parse_line
from kts.worker import detect
from kts.worker.detect import CudaDevice, CudaDriver, choose, choose_for, cuda_devices
from kts.worker.failures import CommandError, OutOfMemoryError, failed
from kts.worker.prepare import parse_cores, prepare
from kts.worker.standalone import Settings, measure, read_settings

GPU = CudaDevice(index=0, name="NVIDIA X", uuid="GPU-1", memory_bytes=1)


def test_cores_are_read_from_a_list() -> None:
    """Otherwise tenants land on cores that nobody chose."""
    assert parse_cores("1") == {1}
    assert parse_cores("2, 3") == {2, 3}
    for bad in ("a", "1,", "-1", "1-3", " "):
        with pytest.raises(UsageError, match="KTS_CORES"):
            parse_cores(bad)


def test_a_core_that_is_not_there_is_an_error_with_the_choice() -> None:
    """Otherwise the worker runs unpinned and says nothing."""
    with pytest.raises(SetupError) as caught:
        prepare({"KTS_CORES": "4095"})
    assert str(min(os.sched_getaffinity(0))) in caught.value.remedy


def test_libraries_get_one_thread_per_core_unless_the_user_said_otherwise() -> None:
    """Otherwise a tenant pinned to one core runs a thread per core of the machine."""
    env = {"OMP_NUM_THREADS": "7"}
    cores = prepare(env)
    assert env == {
        "OMP_NUM_THREADS": "7",
        "OPENBLAS_NUM_THREADS": str(len(cores)),
        "MKL_NUM_THREADS": str(len(cores)),
    }


def test_importing_the_entry_point_does_not_import_numpy() -> None:
    """Otherwise thread counts and affinity are set too late to matter."""
    code = "import sys, kts.worker.__main__; sys.exit(any(m in sys.modules for m in ('numpy', 'torch', 'msgspec')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    code = "import sys, kts.worker.detect; sys.exit(any(m in sys.modules for m in ('numpy', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("gpus", "installed", "wish", "choice"),
    [
        ((), (), ("auto", "auto"), ("cpu", "numpy")),
        ((), ("torch",), ("auto", "auto"), ("cpu", "numpy")),
        ((GPU,), ("torch", "cupy"), ("auto", "auto"), ("cuda", "torch")),
        ((GPU,), ("cupy",), ("auto", "auto"), ("cuda", "cupy")),
        ((GPU,), ("torch", "cupy"), ("cuda", "cupy"), ("cuda", "cupy")),
        ((GPU,), ("torch",), ("cpu", "auto"), ("cpu", "numpy")),
        ((GPU,), ("torch",), ("auto", "numpy"), ("cpu", "numpy")),
        ((), (), ("cuda", "auto"), "no driver"),
        ((GPU,), (), ("auto", "auto"), "neither torch nor cupy"),
        ((GPU,), ("torch",), ("auto", "cupy"), "cupy is not installed"),
        ((), ("torch",), ("auto", "torch"), "torch needs a CUDA device"),
        ((GPU,), ("torch",), ("cuda", "numpy"), "numpy cannot use"),
    ],
)
def test_device_and_library_are_chosen_or_refused_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch,
    gpus: tuple[CudaDevice, ...],
    installed: tuple[str, ...],
    wish: tuple[str, str],
    choice: tuple[str, str] | str,
) -> None:
    """Otherwise a run silently measures another device than the user has in mind."""
    monkeypatch.setattr(
        detect, "cuda_driver", lambda: CudaDriver(devices=gpus, problem="" if gpus else "no driver here")
    )
    monkeypatch.setattr(detect, "installed", lambda library: library in installed)
    if isinstance(choice, str):
        with pytest.raises(SetupError, match=choice) as caught:
            choose(*wish)  # type: ignore[arg-type]
        assert caught.value.remedy
    else:
        assert choose(*wish) == choice  # type: ignore[arg-type]


class _FakeLibcuda:
    """Answers as the driver does for two GPUs of a name, or fails to start with ``init_error``."""

    def __init__(self, init_error: int = 0, name: bytes = b"NVIDIA X") -> None:
        self._init_error, self._name = init_error, name

    def cuInit(self, _flags: int) -> int:  # noqa: N802
        return self._init_error

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 2
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 13010
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, _size: int, _device: Any) -> int:  # noqa: N802
        name.value = self._name
        return 0

    def cuDeviceGetUuid_v2(self, raw: Any, device: Any) -> int:  # noqa: N802
        raw._obj[0] = 0xAB
        raw._obj[15] = device.value
        return 0

    def cuDeviceTotalMem_v2(self, total: Any, _device: Any) -> int:  # noqa: N802
        total._obj.value = 2**37
        return 0


def test_gpus_are_named_as_nvidia_smi_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the same-device check compares names that nobody can look up."""
    monkeypatch.setattr(detect.ctypes, "CDLL", lambda _: _FakeLibcuda())
    driver = detect.cuda_driver()
    assert driver.cuda_version == "13.1"
    assert [gpu.uuid for gpu in driver.devices] == [
        "GPU-ab000000-0000-0000-0000-000000000000",
        "GPU-ab000000-0000-0000-0000-000000000001",
    ]
    assert driver.devices[1] == CudaDevice(index=1, name="NVIDIA X", uuid=driver.devices[1].uuid, memory_bytes=2**37)


def test_a_mig_device_is_named_as_nvml_and_the_kubelet_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise no source finds it: CUDA gives a MIG device's own UUID, and NVML knows that as MIG-."""
    monkeypatch.setattr(detect.ctypes, "CDLL", lambda _: _FakeLibcuda(name=b"NVIDIA H200 MIG 1g.18gb"))
    assert cuda_devices()[0].uuid == "MIG-ab000000-0000-0000-0000-000000000000"


def test_a_driver_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a broken driver reads like a machine without GPU."""
    monkeypatch.setattr(detect.ctypes, "CDLL", lambda _: _FakeLibcuda(init_error=803))
    assert "803" in detect.cuda_driver().problem
    assert cuda_devices() == []


def test_asking_for_gpus_never_raises() -> None:
    """Otherwise a machine without a driver cannot even say so."""
    assert isinstance(cuda_devices(), list)


def test_settings_default_to_the_published_ones() -> None:
    """Otherwise a plain run is not the published one."""
    assert read_settings("fft", {}) == Settings(iterations=800, size=4096, sleep_ms=100, phase="", app="FFT")
    assert read_settings("gemm", {"SLEEP_MS": ""}).sleep_ms == 150
    env = {"ITERATIONS": "3", "MATRIX_SIZE": "64", "SLEEP_MS": "0.5", "KTS_PHASE": "warm"}
    assert read_settings("gemm", env) == Settings(iterations=3, size=64, sleep_ms=0.5, phase="warm", app="GEMM")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ITERATIONS", "0"),
        ("ITERATIONS", "1e3"),
        ("MATRIX_SIZE", "0"),
        ("MATRIX_SIZE", "big"),
        ("SLEEP_MS", "-1"),
        ("SLEEP_MS", "nan"),
        ("SLEEP_MS", "inf"),
        ("KTS_PHASE", "a,b"),
    ],
)
def test_a_bad_setting_is_one_line_that_names_it(name: str, value: str) -> None:
    """Otherwise a typing error gives a traceback or a run of something else."""
    with pytest.raises(SpecError, match=name) as caught:
        read_settings("fft", {name: value})
    assert "\n" not in caught.value.what
    assert caught.value.remedy


class _FlushCounter(io.StringIO):
    flushed_at: list[str]

    def flush(self) -> None:
        self.flushed_at.append(self.getvalue())


def test_alone_each_line_is_flushed_and_pauses_lie_between_iterations() -> None:
    """Otherwise a killed pod loses lines, or the last iteration is followed by a useless pause."""
    clock, out = FakeClock(), _FlushCounter()
    out.flushed_at = []
    sleeps: list[float] = []
    settings = Settings(iterations=3, size=16, sleep_ms=7.0, phase="x", app="GEMM")

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        clock.sleep(seconds)

    ahead_ns = 10**18
    device = FakeDevice(clock, lambda _: 2.0)
    measure("gemm", settings, device, out, sleep=sleep, offset_ns=lambda: ahead_ns, now=clock)
    lines = [parse_line(text) for text in out.getvalue().splitlines()]
    assert [line and (line.app, line.i, line.device_ms, line.phase) for line in lines] == [
        ("GEMM", i, 1.0, "x") for i in range(3)
    ]
    assert all(line and (line.end_ns - line.start_ns) == pytest.approx(2 * MS, rel=0.01) for line in lines)
    assert all(line and ahead_ns < line.end_ns <= ahead_ns + clock.ns for line in lines), "on the epoch's clock"
    assert [text.count("\n") for text in out.flushed_at] == [1, 2, 3]
    assert sleeps == pytest.approx([0.007] * 2, abs=1e-6)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OutOfMemoryError("gemm of size 9 needs 5 bytes", "smaller"), "out-of-memory"),
        (MemoryError("Unable to allocate 8 GiB"), "out-of-memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB\nlong advice"), "out-of-memory"),
        (RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), "out-of-memory"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "out-of-memory"),
        (type("OutOfMemoryError", (RuntimeError,), {})("1,024 bytes (allocated so far: 0)"), "out-of-memory"),
        (RuntimeError("CUDA error: unspecified launch failure\nadvice"), "device-lost"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "device-lost"),
        (RuntimeError("cudaErrorDevicesUnavailable: CUDA-capable device(s) is/are busy or unavailable"), "device-lost"),
        (RuntimeError("cudaErrorUnknown: unknown error"), "device-lost"),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), "device-lost"),
        (SetupError("library torch is not installed", "pip install"), "setup"),
        (CommandError("command not found: x", "path"), "program"),
        (ValueError("surprise"), "internal"),
    ],
)
def test_failures_are_told_apart_in_one_line_with_the_tenant(error: Exception, kind: str) -> None:
    """Otherwise a lost GPU reads like a bug, or out-of-memory like a lost GPU."""
    message = failed("agent", error)
    assert message.kind == kind
    assert message.what.startswith("tenant agent: ")
    assert "\n" not in message.what
    assert message.remedy
    if isinstance(error, KtsError):
        assert error.what in message.what


@pytest.mark.parametrize(
    ("gpus", "library", "remedy"), [((), "auto", "use a GPU with torch"), ((GPU,), "cupy", "set library: torch")]
)
def test_a_graph_that_cannot_be_had_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, gpus: tuple[CudaDevice, ...], library: Library, remedy: str
) -> None:
    """Otherwise an eager decoder is measured under the name of a graph."""
    monkeypatch.setattr(detect, "cuda_driver", lambda: CudaDriver(devices=gpus))
    monkeypatch.setattr(detect, "installed", lambda _: True)
    graph = Kernel(workload="decode", size=64, library=library, decoder=Decoder(graph=True))
    with pytest.raises(SetupError) as caught:
        choose_for("auto", graph)
    assert remedy in caught.value.remedy
    assert choose_for("auto", Kernel(workload="decode", size=64, library=library, decoder=Decoder()))
