"""A fake NVML, an exporter on a real socket, and clocks, for the tests of `kts.telemetry`."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pynvml

from kts.model.run import DeviceInfo, WorkerInfo
from kts.model.telemetry import Sample, SampleSeries, Scope

UUID = "GPU-00000000-0000-0000-0000-000000000001"
OTHER_UUID = "GPU-00000000-0000-0000-0000-000000000002"
MS = 1_000_000
S = 1_000_000_000


class Clock:
    """Nanoseconds that pass only when told to."""

    def __init__(self, ns: int = 1000 * S) -> None:
        self.ns = ns

    def __call__(self) -> int:
        return self.ns

    def after(self, ns: int) -> int:
        """Lets time pass; the time then."""
        self.ns += ns
        return self.ns


class FakeMachine:
    """Files of a machine with four hardware threads, 0 and 2 of one core, 1 and 3 of the other; all idle at first."""

    BOOT = "a-start-of-a-kernel"

    def __init__(self, folder: Path, siblings: bool = True) -> None:
        self.proc, self.system = folder / "proc", folder / "cpu"
        self.ticks = {core: [0] * 10 for core in range(4)}  # columns of /proc/stat, in 10 ms
        for core in range(4):
            (self.system / f"cpu{core}/topology").mkdir(parents=True)
            (self.system / f"cpu{core}/cpufreq").mkdir()
            together = f"{core % 2},{core % 2 + 2}" if siblings else f"{core}"
            (self.system / f"cpu{core}/topology/thread_siblings_list").write_text(f"{together}\n")
            (self.system / f"cpu{core}/cpufreq/scaling_cur_freq").write_text("2400000\n")
        (self.proc / "sys/kernel/random").mkdir(parents=True)
        (self.proc / "sys/kernel/random/boot_id").write_text(f"{self.BOOT}\n")
        (self.proc / "pressure").mkdir()
        self.pressure_us = 0
        self.write()

    def worker(self, tenant: str, cores: tuple[int, ...]) -> WorkerInfo:
        """A tenant on this machine."""
        device = DeviceInfo(kind="cpu", uuid="cpu", name="CPU", label="CPU", library="numpy")
        return WorkerInfo(tenant=tenant, pid=1, hostname="h", device=device, cores=cores, boot_id=self.BOOT)

    def idle(self, ns: int, cores: Iterable[int] = range(4), column: int = 3) -> None:
        """Lets cores be idle for so long, or what another column tells."""
        for core in cores:
            self.ticks[core][column] += ns // (10 * MS)
        self.write()

    def write(self) -> None:
        """As it is now."""
        lines = [f"cpu{core} {' '.join(map(str, ticks))}" for core, ticks in self.ticks.items()]
        (self.proc / "stat").write_text("\n".join(["cpu 1 1 1 1 1 1 1 1 0 0", *lines, "intr 1 2 3", ""]))
        for what in ("cpu", "io", "memory"):
            text = f"some avg10=0.00 avg60=0.00 avg300=0.00 total={self.pressure_us}\nfull avg10=0.00 total=0\n"
            (self.proc / "pressure" / what).write_text(text)


class FakeNvml:
    """Stands for the module ``pynvml``: its own errors, constants and structures, and made-up answers.

    ``refused``: function name to the error code that it answers with. ``busy``: what the device does now.
    """

    def __init__(self, clock: Clock, realtime: Callable[[], int] | None = None) -> None:
        self.clock = clock
        self.realtime = realtime or clock
        self.refused: dict[str, int] = {}
        self.busy = {"gpu": 50, "memory": 20, "sm_mhz": 1980, "power_mw": 400_000, "reasons": 0}
        self.gpm = {1: 90.0, 2: 60.0, 3: 30.0, 5: 10.0, 10: 45.0}
        self.gpm_refused: set[int] = set()
        self.gpm_supported = 1
        self.listed: list[int] = []
        self.processes: list[tuple[int, int, int, int]] = []  # pid, stamp in us, SM and memory percents
        self.reasons_offered = pynvml.nvmlClocksEventReasonAll
        self.xids: list[int] = []
        self.opened = 0
        self.samples_held = 0
        self.gpm_intervals_ns: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(pynvml, name)

    def _answer(self, name: str) -> None:
        if name in self.refused:
            raise pynvml.NVMLError(self.refused[name])

    def nvmlInit(self) -> None:  # noqa: N802
        self._answer("nvmlInit")
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.opened -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid != UUID:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return "handle"

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:  # noqa: ARG002, N802
        self._answer("nvmlDeviceGetUtilizationRates")
        return SimpleNamespace(gpu=self.busy["gpu"], memory=self.busy["memory"])

    def nvmlDeviceGetClockInfo(self, handle: str, which: int) -> int:  # noqa: ARG002, N802
        self._answer("nvmlDeviceGetClockInfo")
        return self.busy["sm_mhz"] if which == pynvml.NVML_CLOCK_SM else 3201

    def nvmlDeviceGetFieldValues(self, handle: str, fields: list[int]) -> Any:  # noqa: ARG002, N802
        self._answer("nvmlDeviceGetFieldValues")
        value = pynvml.c_nvmlFieldValue_t()
        value.nvmlReturn = self.refused.get("instant", pynvml.NVML_SUCCESS)
        value.value.uiVal = self.busy["power_mw"]
        return [value]

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:  # noqa: ARG002, N802
        self._answer("nvmlDeviceGetPowerUsage")
        return 300_000

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:  # noqa: ARG002, N802
        self._answer("nvmlDeviceGetCurrentClocksEventReasons")
        return self.busy["reasons"]

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:  # noqa: ARG002, N802
        self._answer("nvmlDeviceGetEnforcedPowerLimit")
        return 700_000

    def nvmlDeviceGetSupportedClocksEventReasons(self, handle: str) -> int:  # noqa: ARG002, N802
        self._answer("nvmlDeviceGetSupportedClocksEventReasons")
        return int(self.reasons_offered)

    def nvmlEventSetCreate(self) -> str:  # noqa: N802
        self._answer("nvmlEventSetCreate")
        self.samples_held += 1
        return "events"

    def nvmlEventSetFree(self, events: str) -> None:  # noqa: ARG002, N802
        self.samples_held -= 1

    def nvmlDeviceRegisterEvents(self, handle: str, what: int, events: str) -> None:  # noqa: ARG002, N802
        self._answer("nvmlDeviceRegisterEvents")
        assert what == pynvml.nvmlEventTypeXidCriticalError

    def nvmlEventSetWait_v2(self, events: str, patience_ms: int) -> Any:  # noqa: ARG002, N802
        self._answer("nvmlEventSetWait_v2")
        assert patience_ms == 0
        if not self.xids:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT)
        return SimpleNamespace(eventType=pynvml.nvmlEventTypeXidCriticalError, eventData=self.xids.pop(0))

    def nvmlGpmQueryDeviceSupport(self, handle: str) -> Any:  # noqa: ARG002, N802
        self._answer("nvmlGpmQueryDeviceSupport")
        return SimpleNamespace(isSupportedDevice=self.gpm_supported)

    def nvmlGpmSampleAlloc(self) -> Any:  # noqa: N802
        self.samples_held += 1
        return pynvml.pointer(pynvml.struct_c_nvmlGpmSample_t())

    def nvmlGpmSampleFree(self, sample: Any) -> None:  # noqa: ARG002, N802
        self.samples_held -= 1

    def nvmlGpmSampleGet(self, handle: str, sample: Any) -> Any:  # noqa: ARG002, N802
        self._answer("nvmlGpmSampleGet")
        self.gpm_intervals_ns.append(self.clock())
        return sample

    def nvmlGpmMetricsGet(self, request: Any) -> Any:  # noqa: N802
        self._answer("nvmlGpmMetricsGet")
        assert request.version == pynvml.NVML_GPM_METRICS_GET_VERSION
        assert request.sample1
        assert request.sample2
        for place in range(request.numMetrics):
            metric = request.metrics[place]
            refused = metric.metricId in self.gpm_refused
            metric.nvmlReturn = pynvml.NVML_ERROR_NOT_SUPPORTED if refused else pynvml.NVML_SUCCESS
            metric.value = 0.0 if refused else self.gpm[metric.metricId]
        return request

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> Any:  # noqa: ARG002, N802
        return [SimpleNamespace(pid=pid) for pid in self.listed]

    def nvmlDeviceGetProcessUtilization(self, handle: str, since_us: int) -> Any:  # noqa: ARG002, N802
        self._answer("nvmlDeviceGetProcessUtilization")
        found = [p for p in self.processes if p[1] > since_us]
        if not found:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return [SimpleNamespace(pid=p, timeStamp=t, smUtil=sm, memUtil=mem) for p, t, sm, mem in found]


RECORDED = """\
# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{{gpu="0",UUID="{other}",pci_bus_id="00000000:1A:00.0",device="nvidia0",modelName="NVIDIA H200",Hostname="n1"}} 345
DCGM_FI_DEV_SM_CLOCK{{gpu="1",UUID="{uuid}",pci_bus_id="00000000:3D:00.0",device="nvidia1",modelName="NVIDIA H200",Hostname="n1",container="worker",namespace="kts",pod="kts-x-fft-abcde"}} 1980
DCGM_FI_DEV_SM_CLOCK{{gpu="1",UUID="{uuid}",pci_bus_id="00000000:3D:00.0",device="nvidia1",modelName="NVIDIA H200",Hostname="n1",container="worker",namespace="kts",pod="kts-x-gemm-fghij"}} 1980
# HELP DCGM_FI_DEV_MEMORY_TEMP Memory temperature (in C).
DCGM_FI_DEV_MEMORY_TEMP{{gpu="1",UUID="{uuid}"}} 51
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
DCGM_FI_DEV_GPU_UTIL{{gpu="1",UUID="{uuid}",Hostname="n1"}} {util}
DCGM_FI_DEV_MEM_COPY_UTIL{{gpu="1",UUID="{uuid}",Hostname="n1"}} 9223372036854775794
DCGM_FI_DEV_POWER_USAGE{{gpu="1",UUID="{uuid}",Hostname="n1"}} 403.118000
DCGM_FI_PROF_GR_ENGINE_ACTIVE{{gpu="1",UUID="{uuid}",Hostname="n1"}} 0.971234
DCGM_FI_PROF_SM_ACTIVE{{gpu="1",UUID="{uuid}",GPU_I_PROFILE="1g.18gb",GPU_I_ID="7",Hostname="n1"}} 0.111111
DCGM_FI_PROF_SM_ACTIVE{{gpu="1",UUID="{uuid}",Hostname="n1"}} {sm}
DCGM_FI_PROF_DRAM_ACTIVE{{gpu="1",UUID="{uuid}",Hostname="n1",err="a \\"quoted\\" }} word"}} 0.402000
"""  # noqa: E501
"""What dcgm-exporter answers, with a second GPU, copies for two pods, a blank and a MIG instance."""


def exporter_text(sm: float = 0.6, util: int = 97) -> str:
    """An answer with these values."""
    return RECORDED.format(uuid=UUID, other=OTHER_UUID, sm=f"{sm:.6f}", util=util)


RECORDINGS = Path(__file__).parent / "data" / "dcgm"


def recorded(name: str) -> str:
    """An answer of tests/data/dcgm."""
    return (RECORDINGS / name).read_text(encoding="utf-8")


Respond = Callable[[BaseHTTPRequestHandler], None]


class Exporter:
    """A dcgm-exporter on a real socket: ``text`` is its next answer, ``status`` its code, ``headers`` more of its head,
    ``encode`` what it does to the body; ``respond`` answers in its place."""

    def __init__(self) -> None:
        self.text = exporter_text()
        self.status = 200
        self.headers: dict[str, str] = {}
        self.encode: Callable[[bytes], bytes] = bytes
        self.respond: Respond | None = None
        self.asked = 0
        self.asked_headers: list[dict[str, str]] = []
        self.port = 0
        self.context: ssl.SSLContext | None = None
        self._server: ThreadingHTTPServer | None = None
        self._connections: list[socket.socket] = []

    @property
    def url(self) -> str:
        """Where it answers, or did."""
        return f"http{'s' if self.context else ''}://127.0.0.1:{self.port}/metrics"

    def start(self) -> None:
        """It answers, at the port it had before."""
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                served._connections.append(self.connection)

            def do_GET(self) -> None:
                served.asked += 1
                served.asked_headers.append(dict(self.headers))
                if served.respond is not None:
                    served.respond(self)
                    return
                body = served.encode(served.text.encode())
                self.send_response(served.status if self.path == "/metrics" else 404)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                for name, value in served.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """A client that goes away is no news."""

        self._server = Server(("127.0.0.1", self.port), Handler)
        if self.context is not None:
            self._server.socket = self.context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """It is gone, with its connections."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()


@contextmanager
def exporter(context: ssl.SSLContext | None = None) -> Iterator[Exporter]:
    """An exporter that answers until the end of the context."""
    served = Exporter()
    served.context = context
    served.start()
    try:
        yield served
    finally:
        served.stop()


def series(
    points: list[tuple[int, int, float]],
    *,
    source: str = "gpm",
    metric: str = "sm_active_ratio",
    scope: Scope = "device",
    subject: str = UUID,
) -> SampleSeries:
    """A series of (t_ns, span_ns, value)."""
    t, span, value = (np.array(column) for column in zip(*points, strict=True))
    return SampleSeries(
        source=source,
        metric=metric,
        scope=scope,
        subject=subject,
        t_ns=t.astype(np.int64),
        span_ns=span.astype(np.int64),
        value=value.astype(np.float64),
    )


def sample(t_ns: int, value: float = 0.5, **changes: Any) -> Sample:
    """One sample."""
    fields: dict[str, Any] = {
        "t_ns": t_ns,
        "span_ns": 0,
        "source": "nvml",
        "metric": "gpu_busy_ratio",
        "scope": "device",
        "subject": UUID,
        "value": value,
    }
    return Sample(**(fields | changes))


def proc_of(folder: Path, *processes: tuple[int, int, str]) -> Path:
    """Makes ``folder`` a /proc with these processes: pid, parent, command."""
    for pid, parent, command in processes:
        here = folder / str(pid)
        here.mkdir()
        (here / "comm").write_text(f"{command}\n", encoding="utf-8")
        (here / "stat").write_text(f"{pid} (a ) b) S {parent} 1 1\n", encoding="utf-8")
    return folder
