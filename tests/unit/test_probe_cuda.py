"""The GPU's probe on a driver made of Python: what it launches, in which pieces, and what it makes of failures."""

# ruff: noqa: N802 - the driver's names
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.helpers_cuda import FakeCuda, fake_compiler

from kts.errors import MeasurementError, SetupError
from kts.worker.probe import compile as compiling
from kts.worker.probe.compile import COMPILERS, Nvrtc, compile_kernels
from kts.worker.probe.cuda import CHUNK_S, CudaProbe
from kts.worker.probe.driver_api import Driver

MS = 1_000_000


def _opened(**arguments: Any) -> tuple[CudaProbe, FakeCuda]:
    library = FakeCuda(**arguments)
    with fake_compiler():
        return CudaProbe(Driver(library)), library


def test_gaps_are_found_also_between_two_kernels() -> None:
    """Else a gap that falls on the seam of two launches is lost, and with it one neighbour's turn."""
    probe, library = _opened()
    length = round(CHUNK_S * 1e9)
    library._ran_ns = 0
    library.gaps = [(2 * MS, 5 * MS), (length, 7 * MS), (length, 9 * MS)]
    trace = probe.watch(3 * CHUNK_S, threshold_ns=20_000)
    assert [round(length / MS) for _, length in trace.gaps] == [5, 7, 9]
    watching = [shape for name, shape in library.launched if name == "kts_watch"]
    assert watching == [(1, 32)] * 3


def test_a_watch_is_one_warp_and_a_neighbour_fills_the_gpu() -> None:
    """Else the probe is a load itself, or a switch beside it has nothing to save."""
    probe, library = _opened()
    said: list[int] = []
    probe.saturate(20_000, lambda: said.append(len(library.launched)), lambda _: len(said) > 0)
    shapes = {shape for name, shape in library.launched if name == "kts_watch"}
    assert shapes == {(132 * 8, 256)}
    library.launched.clear()
    left = [True, False]
    probe.bursts(1000, lambda: left.pop(0))
    assert library.launched == [("kts_burst", (132 * 8, 256))]


def test_a_saturating_neighbour_always_has_more_queued() -> None:
    """Else its queue runs empty between two kernels and it yields instead of being preempted."""
    probe, library = _opened()
    queued: list[int] = []

    def stop(_: float) -> bool:
        queued.append(len(library.queue))
        return len(queued) > 50

    probe.saturate(20_000, lambda: None, stop)
    assert min(queued[2:]) >= 1


def test_a_watch_ends_with_enough_gaps() -> None:
    """Else a look takes more than its one turn from whoever runs there."""
    probe, library = _opened()
    library._ran_ns = 0
    library.gaps = [(2 * MS, 5 * MS)] * 4
    trace = probe.watch(0.05, threshold_ns=20_000, enough=1)
    assert len(trace.gaps) == 1
    assert trace.end_ns == sum(trace.gaps[0])


def test_closing_gives_the_context_back() -> None:
    """Else its memory stays on the GPU until the process ends."""
    probe, library = _opened()
    probe.close()
    assert library.released


@pytest.mark.parametrize(
    ("refuse", "remedy"),
    [
        ({"cuDevicePrimaryCtxRetain": 46}, "exclusively"),
        ({"cuDevicePrimaryCtxRetain": 2}, "memory"),
        ({"cuInit": 100}, "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_a_gpu_that_cannot_be_had_is_explained(refuse: dict[str, int], remedy: str) -> None:
    """Else a user reads an error number."""
    with pytest.raises(SetupError) as caught:
        Driver(FakeCuda(refuse=refuse))
    assert remedy in caught.value.remedy


def test_a_gpu_lost_while_watching_is_no_mistake_of_the_setup() -> None:
    """Else the exit code says that nothing was begun."""
    probe, library = _opened()
    library.refuse = {"cuStreamQuery": 719}
    with pytest.raises(MeasurementError, match="CUDA_ERROR_719"):
        probe.watch(0.01, threshold_ns=20_000)


def test_the_first_compiler_that_works_is_taken_and_the_others_are_named() -> None:
    """Else a broken cuda-core keeps torch's compiler from being used, or nobody learns why."""

    def broken(_source: str, _arch: str) -> bytes:
        raise ImportError("No module named 'cuda'\nand more")

    def old(_source: str, _arch: str) -> bytes:
        return b"unloadable"

    def good(source: str, arch: str) -> bytes:
        assert "kts_watch" in source
        return f"code for {arch}".encode()

    def load(image: bytes) -> str:
        if image == b"unloadable":
            raise SetupError("CUDA_ERROR_UNSUPPORTED_PTX_VERSION")
        return image.decode()

    made = compile_kernels("90", load, [("a", broken), ("b", old), ("c", good), ("d", broken)])
    assert (made.loaded, made.compiler) == ("code for 90", "c")
    assert made.passed_over == ("a: No module named 'cuda'", "b: CUDA_ERROR_UNSUPPORTED_PTX_VERSION")
    with pytest.raises(SetupError, match="a: No module named 'cuda'; b: CUDA_ERROR"):
        compile_kernels("90", load, [("a", broken), ("b", old)])


def test_compilers_are_asked_in_the_documented_order() -> None:
    """Else a pod with torch imports cupy."""
    assert [name.split()[0].rstrip(",") for name, _ in COMPILERS] == ["cuda-core", "nvrtc", "cupy"]


def test_without_any_compiler_the_user_hears_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the probe would fail in an image without one, and nobody would know why."""
    monkeypatch.setattr(compiling, "nvrtc_libraries", lambda: iter(()))
    with pytest.raises(SetupError, match="no compiler") as caught:
        CudaProbe(Driver(FakeCuda()))
    assert "cuda-core" in caught.value.remedy


def test_nvrtc_is_found_where_torch_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else torch's compiler is not found without importing torch."""
    library = tmp_path / "nvidia" / "cuda_nvrtc" / "lib" / "libnvrtc.so.12"
    library.parent.mkdir(parents=True)
    library.touch()
    (library.parent / "libnvrtc-builtins.so.12.9").touch()
    monkeypatch.setattr(compiling, "_package_paths", lambda name: [tmp_path / name])
    assert next(compiling.nvrtc_libraries()) == str(library)


class _FakeNvrtc:
    """As much of libnvrtc as a compilation calls."""

    def __init__(self, log: bytes = b"") -> None:
        self.log = log
        self.options: list[bytes] = []
        self.destroyed = False
        self.nvrtcGetErrorString = lambda _: b"NVRTC_ERROR"

    def nvrtcCreateProgram(self, out: Any, *_: Any) -> int:
        out._obj.value = 7
        return 0

    def nvrtcCompileProgram(self, _program: Any, n: int, options: Any) -> int:
        self.options = list(options[:n])
        return 6 if self.log else 0

    def nvrtcGetProgramLogSize(self, _program: Any, out: Any) -> int:
        out._obj.value = len(self.log) + 1
        return 0

    def nvrtcGetProgramLog(self, _program: Any, out: Any) -> int:
        out.value = self.log
        return 0

    def nvrtcGetCUBINSize(self, _program: Any, out: Any) -> int:
        out._obj.value = 4
        return 0

    def nvrtcGetCUBIN(self, _program: Any, out: Any) -> int:
        out.raw = b"\x7fELF"
        return 0

    def nvrtcDestroyProgram(self, _program: Any) -> int:
        self.destroyed = True
        return 0


def test_nvrtc_compiles_for_exactly_this_gpu() -> None:
    """Else its code may be too new for the driver."""
    library = _FakeNvrtc()
    assert Nvrtc(library).compile("source", "sm_90") == b"\x7fELF"  # type: ignore[arg-type]
    assert library.options == [b"--gpu-architecture=sm_90"]
    assert library.destroyed


def test_what_nvrtc_says_is_told() -> None:
    """Else nobody learns why the kernel does not compile."""
    library = _FakeNvrtc(b"kernels.cu(3): error: no")
    with pytest.raises(RuntimeError, match="error: no"):
        Nvrtc(library).compile("source", "sm_90")  # type: ignore[arg-type]
    assert library.destroyed
