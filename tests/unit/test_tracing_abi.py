"""abi.h and calls.def say what CUPTI's, CUDA's and NVTX's own headers say, of each version that is installed here."""

from __future__ import annotations

import re
import shutil
import site
import subprocess
from pathlib import Path

import pytest

from kts.worker.tracing.build import NATIVE

_ROW = re.compile(r"CALL\((\w+), (\d+), (\w+), (\w+), ([^,]+), (.*)\)")
# Where crt/host_defines.h is not installed (it comes with nvcc): what the headers use of it.
_HOST_DEFINES = """
#define __host__
#define __device__
#define __global__
#define __cudart_builtin__
#define __device_builtin__
#define __device_builtin_texture_type__
#define __device_builtin_surface_type__
#define __builtin_align__(a) __attribute__((aligned(a)))
#define __align__(a) __attribute__((aligned(a)))
#define CUDARTAPI
#define CUDARTAPI_CDECL
#define __CUDA_DEPRECATED
#define __cluster_dims__(...)
#define __specialization_static static
"""
_OF_ROW = {  # a column of calls.def: the parameters' names that it may be
    "stream": ("hStream", "stream", "config"),
    "to": ("dstHost", "dst"),
    "from": ("srcHost", "src"),
    "way": ("kind",),
}
_DETAIL = {
    "COPY": ("ByteCount", "count", "width", "size"),
    "SET": ("Width", "width", "N", "count"),
}
_EVENT = ("hEvent", "event")
_VIA = {  # (2D or 3D, driver or not, between GPUs): the struct that the first parameter points to, and its extent
    "cuMemcpy2D": "offsetof(CUDA_MEMCPY2D, WidthInBytes)",
    "cuMemcpy3DPeer": "offsetof(CUDA_MEMCPY3D_PEER, WidthInBytes)",
    "cuMemcpy3D": "offsetof(CUDA_MEMCPY3D, WidthInBytes)",
    "cudaMemcpy3DPeer": "offsetof(struct cudaMemcpy3DPeerParms, extent)",
    "cudaMemcpy3D": "offsetof(struct cudaMemcpy3DParms, extent)",
}
_RECORDS = {
    "cupti_kernel": {
        "begin": "start",
        "end": "end",
        "device": "deviceId",
        "context": "contextId",
        "stream": "streamId",
        "correlation": "correlationId",
        "graph_node": "graphNodeId",
    },
    "cupti_copy": {
        "way": "copyKind",
        "from": "srcKind",
        "to": "dstKind",
        "bytes": "bytes",
        "begin": "start",
        "end": "end",
        "device": "deviceId",
        "context": "contextId",
        "stream": "streamId",
        "correlation": "correlationId",
    },
    "cupti_set": {
        "bytes": "bytes",
        "begin": "start",
        "end": "end",
        "device": "deviceId",
        "context": "contextId",
        "stream": "streamId",
        "correlation": "correlationId",
    },
}
_STRUCTS = {
    "cupti_call": (
        "CUpti_CallbackData",
        {
            "site": "callbackSite",
            "params": "functionParams",
            "result": "functionReturnValue",
            "context_id": "contextUid",
            "correlation": "correlationId",
        },
    ),
    "cupti_state": ("CUpti_StateData", {"result": "notification.result", "message": "notification.message"}),
}
_VALUES = {
    "CUPTI_ENTER": "CUPTI_API_ENTER",
    "CUPTI_LEAVE": "CUPTI_API_EXIT",
    "CUPTI_DRIVER": "CUPTI_CB_DOMAIN_DRIVER_API",
    "CUPTI_RUNTIME": "CUPTI_CB_DOMAIN_RUNTIME_API",
    "CUPTI_STATE": "CUPTI_CB_DOMAIN_STATE",
    "CUPTI_FATAL": "CUPTI_CBID_STATE_FATAL_ERROR",
    "CUPTI_OK": "CUPTI_SUCCESS",
    "CUPTI_TAKEN": "CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED",
    "CUPTI_QUEUE_EMPTY": "CUPTI_ERROR_QUEUE_EMPTY",
    "CUPTI_MEMCPY": "CUPTI_ACTIVITY_KIND_MEMCPY",
    "CUPTI_MEMSET": "CUPTI_ACTIVITY_KIND_MEMSET",
    "CUPTI_KERNEL": "CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL",
    "CUPTI_FLUSH_FORCED": "CUPTI_ACTIVITY_FLAG_FLUSH_FORCED",
    "CUPTI_TO_DEVICE": "CUPTI_ACTIVITY_MEMCPY_KIND_HTOD",
    "CUPTI_TO_HOST": "CUPTI_ACTIVITY_MEMCPY_KIND_DTOH",
    "CUPTI_MEMORY_PAGEABLE": "CUPTI_ACTIVITY_MEMORY_KIND_PAGEABLE",
    "CUDA_HOST_TO_DEVICE": "cudaMemcpyHostToDevice",
    "CUDA_DEVICE_TO_HOST": "cudaMemcpyDeviceToHost",
    "CUDA_BY_POINTERS": "cudaMemcpyDefault",
    "CUDA_INVALID_VALUE": "CUDA_ERROR_INVALID_VALUE",
    "CUDA_ATTRIBUTE_MEMORY_TYPE": "CU_POINTER_ATTRIBUTE_MEMORY_TYPE",
    "CUDA_MEMORY_HOST": "CU_MEMORYTYPE_HOST",
}


def _installed() -> list[tuple[Path, Path]]:
    """Folders with headers: (CUPTI's, CUDA's), of each version."""
    found = []
    for packages in map(Path, site.getsitepackages()):
        both = packages / "nvidia/cu13/include"
        pairs = [(packages / "nvidia/cuda_cupti/include", packages / "nvidia/cuda_runtime/include"), (both, both)]
        found += [pair for pair in pairs if (pair[0] / "cupti.h").is_file() and (pair[1] / "cuda.h").is_file()]
    return found


@pytest.fixture(params=_installed() or [None], ids=lambda pair: pair and pair[0].parent.name)
def headers(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    if request.param is None:
        pytest.skip("CUPTI's and CUDA's headers are not installed (packages nvidia-cuda-cupti, nvidia-cuda-runtime)")
    return request.param  # type: ignore[no-any-return]


def check(folder: Path, includes: tuple[Path, ...], text: str) -> None:
    """Fails with the assertions that do not hold."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    (folder / "crt").mkdir(exist_ok=True)
    (folder / "crt/host_defines.h").write_text(_HOST_DEFINES)
    (folder / "proof.c").write_text(text)
    paths = [f"-I{path}" for path in (*includes, NATIVE)] + ["-idirafter", str(folder)]
    argv = [compiler, "-std=gnu11", "-w", "-fsyntax-only", *paths, str(folder / "proof.c")]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def _same(what: str, ours: object, theirs: object) -> str:
    return f'_Static_assert(({ours}) == ({theirs}), "{what}");\n'


def _row(line: re.Match[str], cupti: str, params: dict[str, str]) -> str:
    domain, number, name, kind, flags, rest = line.groups()
    if f"TRACE_CBID_{name} " not in cupti:
        return ""  # of another version
    text = _same(name, number, f"CUPTI_{domain}_TRACE_CBID_{name}")
    if name not in params:  # it has none, or is no longer called in this version
        return text
    names = set(re.findall(r"(\w+);", params[name]))
    at = dict(
        zip(("stream", "detail", "factors", "unit", "to", "from", "way"), map(int, rest.split(", ")), strict=True)
    )
    if "VIA" in flags:
        struct = next(extent for prefix, extent in _VIA.items() if name.startswith(prefix))
        text += _same(f"{name} extent", at["detail"], struct)
        if at["way"] >= 0:
            text += _same(f"{name} way", at["way"], "offsetof(struct cudaMemcpy3DParms, kind)")
        at["detail"] = at["way"] = -1
    columns = {**_OF_ROW, "detail": _DETAIL[kind] if kind in _DETAIL and at["factors"] else _EVENT}
    for column, candidates in columns.items():
        field = next((candidate for candidate in candidates if candidate in names), None)
        if at[column] >= 0:
            assert field, f"{name} has no {column}"
            text += _same(f"{name} {column}", at[column], f"offsetof({name}_params, {field})")
        elif column == "stream":
            assert not field, f"{name} has a stream"
    return text


def test_each_call_is_where_the_headers_say(headers: tuple[Path, Path], tmp_path: Path) -> None:
    cupti = "".join((headers[0] / f"cupti_{which}_cbid.h").read_text() for which in ("driver", "runtime"))
    params: dict[str, str] = {}
    for which in ("generated_cuda_meta.h", "generated_cuda_runtime_api_meta.h"):
        for struct in re.finditer(r"typedef struct (\w+)_params_st \{(.*?)\}", (headers[0] / which).read_text(), re.S):
            params[struct[1]] = struct[2]
    rows = [_row(line, cupti, params) for line in _ROW.finditer((NATIVE / "calls.def").read_text())]
    assert sum(map(bool, rows)) > 200
    check(tmp_path, headers, "#include <cuda.h>\n#include <cuda_runtime_api.h>\n#include <cupti.h>\n" + "".join(rows))


def test_no_call_of_these_kinds_is_missing(headers: tuple[Path, Path]) -> None:
    rows = {line[3] for line in _ROW.finditer((NATIVE / "calls.def").read_text())}
    kinds = (
        r"(?:Launch(?:Kernel|Cooperative|HostFunc)|GraphLaunch|Memcpy|Memset|EventRecord|(?:Stream|Event)Query"
        r"|(?:Stream|Event|Ctx|Device|ExecutionCtx)Synchronize|StreamWaitEvent|StreamBeginCapture|StreamEndCapture)"
    )
    cbids = "".join((headers[0] / f"cupti_{which}_cbid.h").read_text() for which in ("driver", "runtime"))
    there = set(re.findall(rf"TRACE_CBID_(cu(?:da)?{kinds}\w*)\s", cbids))
    # Sizes of 32 bits, in no program of today; and one that is no call of its own.
    old = re.compile(r"cuMemcpy(?!Peer|Async|_ptds)\w*(?<!_v2)(?<!_ptds)(?<!_ptsz)|cuMemsetD\w*\d|cuMemcpy_v2")
    missing = {name for name in there - rows if not old.fullmatch(name)}
    assert not missing


def test_structs_and_values(headers: tuple[Path, Path], tmp_path: Path) -> None:
    activity = (headers[0] / "cupti_activity.h").read_text()
    text = "#include <cuda.h>\n#include <cuda_runtime_api.h>\n#include <cupti.h>\n"
    for name in _VALUES:  # some are names of theirs, too
        text += f"#define {name} KTS_{name}\n"
    text += '#include "abi.h"\n'
    for ours, theirs in _VALUES.items():
        text += _same(ours, f"KTS_{ours}", theirs)
    for struct, (theirs, fields) in _STRUCTS.items():
        for ours_field, field in fields.items():
            text += _same(
                f"{struct}.{ours_field}", f"offsetof(struct {struct}, {ours_field})", f"offsetof({theirs}, {field})"
            )
    for struct, of in (("cupti_kernel", "Kernel"), ("cupti_copy", "Memcpy"), ("cupti_set", "Memset")):
        newest = max(re.findall(rf"CUpti_Activity{of}(\d+);", activity), key=int)
        theirs = f"CUpti_Activity{of}{newest}"
        for ours_field, field in _RECORDS[struct].items():
            text += _same(
                f"{struct}.{ours_field}", f"offsetof(struct {struct}, {ours_field})", f"offsetof({theirs}, {field})"
            )
    for config in ("CUlaunchConfig, hStream", "cudaLaunchConfig_t, stream"):
        text += _same(config, "CUDA_CONFIG_STREAM_AT", f"offsetof({config})")
    check(tmp_path, headers, text)
