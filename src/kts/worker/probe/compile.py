"""The probe's kernels as code that the driver loads, from whichever compiler is here.

Asked in this order: cuda-core, the NVRTC library that torch brings (or the CUDA toolkit; torch itself is not
imported: that takes seconds and gigabytes), and cupy. Each gives a cubin for exactly this GPU, which no driver can be
too old to read.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from kts.errors import SetupError
from kts.worker.failures import first_line

HERE = Path(__file__).parent
SOURCE = HERE / "kernels.cu"
_TOOLKITS = ("/usr/local/cuda/lib64", "/usr/local/cuda/targets/x86_64-linux/lib", "/usr/lib/x86_64-linux-gnu")

_T = TypeVar("_T")

Compiler = Callable[[str, str], bytes]
"""From CUDA C++ and an architecture (``90``) to a cubin. Any exception: this one does not work here."""


@dataclass(frozen=True)
class Compiled(Generic[_T]):
    """``loaded``: what became of the code. ``compiler``: which one made it. ``passed_over``: what did not work."""

    loaded: _T
    compiler: str
    passed_over: tuple[str, ...] = ()


def compile_kernels(
    arch: str, load: Callable[[bytes], _T], compilers: Sequence[tuple[str, Compiler]] | None = None
) -> Compiled[_T]:
    """The first compiler's code that ``load`` takes; SetupError, naming every failure, if there is none."""
    source = SOURCE.read_text(encoding="utf-8")
    failures = []
    for name, compiler in COMPILERS if compilers is None else compilers:
        try:
            loaded = load(compiler(source, arch))
        except Exception as error:  # whatever a broken installation can raise: the next one may work
            failures.append(f"{name}: {first_line(error)}")
            continue
        return Compiled(loaded, name, tuple(failures))
    raise SetupError(
        f"no compiler for the probe's kernel (sm_{arch}): {'; '.join(failures)}",
        "pip install cuda-core 'nvidia-cuda-nvrtc-cu12' (or -cu13, as the driver), or update the NVIDIA driver",
    )


def by_cuda_core(source: str, arch: str) -> bytes:
    """cuda-core's `Program`, which finds NVRTC by itself. The package was ``cuda.core.experimental`` before 0.5."""
    try:
        from cuda.core import Program, ProgramOptions
    except ImportError:
        from cuda.core.experimental import Program, ProgramOptions
    return bytes(Program(source, "c++", ProgramOptions(arch=f"sm_{arch}")).compile("cubin").code)


def by_nvrtc(source: str, arch: str) -> bytes:
    """The NVRTC library itself, without the package that brought it."""
    last: Exception = FileNotFoundError("no libnvrtc, neither torch's nor a CUDA toolkit's")
    for path in nvrtc_libraries():
        try:
            return Nvrtc(ctypes.CDLL(path)).compile(source, f"sm_{arch}")
        except (OSError, RuntimeError) as error:
            last = error
    raise last


def by_cupy(source: str, arch: str) -> bytes:
    """cupy's compiler."""
    from cupy.cuda.compiler import compile_using_nvrtc

    code, _ = compile_using_nvrtc(source, arch=arch, filename=SOURCE.name)
    return code.encode() if isinstance(code, str) else bytes(code)


COMPILERS: tuple[tuple[str, Compiler], ...] = (
    ("cuda-core", by_cuda_core),
    ("nvrtc (torch's or the toolkit's)", by_nvrtc),
    ("cupy", by_cupy),
)


def nvrtc_libraries() -> Iterator[str]:
    """Where NVRTC may be: torch's packages, torch itself, the CUDA toolkit, and wherever the loader looks."""
    patterns = [(root, "*/lib/libnvrtc.so.*") for root in _package_paths("nvidia")]
    patterns += [(root, "lib/libnvrtc*.so*") for root in _package_paths("torch")]
    toolkit = os.environ.get("CUDA_PATH") or os.environ.get("CUDA_HOME")
    folders = (*((f"{toolkit}/lib64",) if toolkit else ()), *_TOOLKITS)
    patterns += [(Path(folder), "libnvrtc.so*") for folder in folders]
    for root, pattern in patterns:
        yield from sorted((str(p) for p in root.glob(pattern) if "builtins" not in p.name), reverse=True)
    yield from ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")


def _package_paths(name: str) -> list[Path]:
    """The folders of a package, which is not imported; a namespace package may have several."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return []
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []


class Nvrtc:
    """The few calls of NVRTC that a compilation takes. RuntimeError with the compiler's first line."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.nvrtcGetErrorString.restype = ctypes.c_char_p

    def compile(self, source: str, arch: str) -> bytes:
        """A cubin for ``arch``, e.g. ``sm_90``."""
        program = ctypes.c_void_p()
        name = SOURCE.name.encode()
        self._call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), name, 0, None, None)
        try:
            options = (ctypes.c_char_p * 1)(f"--gpu-architecture={arch}".encode())
            if self._library.nvrtcCompileProgram(program, 1, options):
                raise RuntimeError(self._read(program, "ProgramLog").rstrip(b"\0").decode(errors="replace"))
            return self._read(program, "CUBIN")
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(max(size.value, 1))
        self._call(f"nvrtcGet{what}", program, text)
        return text.raw[: size.value]

    def _call(self, name: str, *arguments: Any) -> None:
        if code := getattr(self._library, name)(*arguments):
            text = self._library.nvrtcGetErrorString(code)
            raise RuntimeError(f"{name}: {text.decode(errors='replace') if text else code}")
