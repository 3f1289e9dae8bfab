"""The contract of `kts.worker.devices.Device`, for every device that this machine has."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from kts.worker.detect import cuda_devices, installed
from kts.worker.devices import Device, open_device
from kts.worker.workloads import KERNELS, KernelName, build


@pytest.fixture(
    params=[
        pytest.param(("cpu", "numpy"), id="cpu"),
        pytest.param(("cuda", "torch"), id="torch", marks=pytest.mark.gpu),
        pytest.param(("cuda", "cupy"), id="cupy", marks=pytest.mark.gpu),
    ]
)
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    kind, library = request.param
    if kind == "cuda" and not (cuda_devices() and installed(library)):
        pytest.skip(f"no CUDA device with {library}")
    opened = open_device(kind, library)
    yield opened
    opened.release()


def test_it_says_what_it_is(device: Device) -> None:
    """Otherwise two devices cannot be told apart, or a CPU poses as a GPU."""
    info = device.info()
    assert info.uuid.startswith({"cuda": "GPU-", "cpu": "cpu:"}[info.kind])
    assert info.stopwatch
    assert info.library_version
    assert ("not a GPU" in info.label) == (info.kind == "cpu")
    assert info == device.info()


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_stopwatch_lies_within_the_hosts_time(device: Device, kernel: KernelName) -> None:
    """Otherwise wait-before-start (host - device) comes out negative."""
    operation = build(kernel, 256, device)
    for _ in range(5):
        begin_ns = time.monotonic_ns()
        device.begin()
        operation()
        device.end()
        device.wait()
        host_ms = (time.monotonic_ns() - begin_ns) / 1e6
        assert 0 < device.device_ms() <= host_ms * 1.001 + 0.01


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_work_is_the_one_that_is_named(device: Device, kernel: KernelName) -> None:
    """Otherwise something cheaper than a fft or a product is measured."""
    operation = build(kernel, 48, device)
    closure = dict(zip(operation.__code__.co_freevars, operation.__closure__, strict=True))
    held = {name: np.asarray(_to_host(cell.cell_contents)) for name, cell in closure.items() if name != "xp"}
    result = np.asarray(_to_host(operation()))
    if kernel == "fft":
        assert result.dtype == np.complex64
        np.testing.assert_allclose(result, np.fft.fft2(held["square"].astype(complex)), rtol=1e-3, atol=1e-2)
    else:
        assert result.dtype == np.float32
        exact = held["left"].astype(float) @ held["right"].astype(float)
        np.testing.assert_allclose(result, exact, rtol=1e-4, atol=1e-4)


def test_memory_is_given_back(device: Device) -> None:
    """Otherwise calibration runs out of memory on sizes that fit."""
    before = device.free_bytes()
    for _ in range(3):
        build("gemm", 2048, device)
        device.release()
    assert device.free_bytes() > before - 2**30


def _to_host(value: object) -> object:
    for method in ("cpu", "get"):
        if hasattr(value, method):
            return getattr(value, method)()
    return value
