"""DCGM, as a dcgm-exporter's endpoint tells it. Device-scoped, always.

The exporter copies a GPU's values to every pod that shares it: a pod's label on a line does not make the value the
pod's. It answers a scrape with what it collected last, as often as it is set to (30 s by default), so only an answer
that differs from the one before is news, and covers the time since the news before it.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from kts.errors import UsageError
from kts.model.telemetry import Sample, SourceState
from kts.telemetry.source import SourceMissingError, plausible
from kts.units import NS_PER_S

FIELDS = {
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": ("graphics_active_ratio", 1.0),
    "DCGM_FI_PROF_SM_ACTIVE": ("sm_active_ratio", 1.0),
    "DCGM_FI_PROF_SM_OCCUPANCY": ("sm_occupancy_ratio", 1.0),
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": ("tensor_active_ratio", 1.0),
    "DCGM_FI_PROF_DRAM_ACTIVE": ("dram_active_ratio", 1.0),
    "DCGM_FI_DEV_GPU_UTIL": ("gpu_busy_ratio", 0.01),
    "DCGM_FI_DEV_MEM_COPY_UTIL": ("memory_busy_ratio", 0.01),
    "DCGM_FI_DEV_SM_CLOCK": ("sm_clock_mhz", 1.0),
    "DCGM_FI_DEV_MEM_CLOCK": ("memory_clock_mhz", 1.0),
    "DCGM_FI_DEV_POWER_USAGE": ("power_w", 1.0),
}
"""Field of DCGM to our metric, and the factor between them."""

PROFILING = frozenset(metric for field, (metric, _) in FIELDS.items() if "_PROF_" in field)
"""Means over the exporter's interval; the others are momentary."""

TIMEOUT_S = 0.5
MOST_BYTES = 4 << 20
MOST_FAILURES = 10
"""In a row, before the source is given up. Each may take the timeout from the other sources."""
NOT_THE_DEVICE = ("gpu_i_id", "pid", "process_name")
POD = ("pod", "exported_pod", "pod_name")
"""Labels of a line that is of a part of the device; of one that is, or is a copy, for a pod."""
INTERVALS_KEPT = 100

_LINE = re.compile(r"(DCGM_FI_[A-Z0-9_]+)\{(.*)\}[ \t]+(\S+)(?:[ \t]+-?\d+)?[ \t]*")
_LABEL = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')


class DcgmSource:
    """`kts.telemetry.source.Source`. UsageError if ``url`` is none that can be scraped."""

    name = "dcgm"

    def __init__(self, url: str, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        try:
            parts = urlsplit(url if "//" in url else f"http://{url}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or parts.scheme not in ("http", "https"):
            raise UsageError(f"--dcgm: {url!r} is no URL of an exporter", "for example http://NODE:9400/metrics")
        self.url = url
        make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        default = 443 if parts.scheme == "https" else 9400
        self._connection = make(host, port or default, timeout=TIMEOUT_S)
        self._path = (parts.path if parts.path not in ("", "/") else "/metrics") + (
            f"?{parts.query}" if parts.query else ""
        )
        self._clock = clock
        self._uuid = ""
        self._values: dict[str, float] = {}
        self._news_ns: int | None = None
        self._intervals_ns: deque[int] = deque(maxlen=INTERVALS_KEPT)
        self._failures = 0

    def open(self, uuid: str) -> SourceState:
        """See Source."""
        try:
            text = self._scrape()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise SourceMissingError(f"no metrics from {self.url}: {_one_line(error)}") from error
        self._values = device_values(text, uuid)
        self._uuid = uuid
        if not self._values:
            self.close()
            known = ", ".join(sorted(_uuids(text))) or "no GPU"
            raise SourceMissingError(f"{self.url} tells nothing of {uuid}; it tells of {known}")
        return self.state()

    def sample(self) -> list[Sample]:
        """See Source. The first news is only noted: how long it covers is not known."""
        try:
            text = self._scrape()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            self._failures += 1
            if self._failures >= MOST_FAILURES:
                raise SourceMissingError(f"{self.url} stopped answering: {_one_line(error)}") from error
            return []
        self._failures = 0
        t_ns = self._clock()
        values = device_values(text, self._uuid)
        if not values or values == self._values:
            return []
        self._values = values
        before_ns, self._news_ns = self._news_ns, t_ns
        if before_ns is None:
            return []
        self._intervals_ns.append(t_ns - before_ns)
        return [
            Sample(
                t_ns=t_ns,
                span_ns=t_ns - before_ns if metric in PROFILING else 0,
                source=self.name,
                metric=metric,
                scope="device",
                subject=self._uuid,
                value=value,
            )
            for metric, value in values.items()
        ]

    def state(self) -> SourceState:
        """See Source."""
        if self._intervals_ns:
            interval_s = statistics.median(self._intervals_ns) / NS_PER_S
            note = f"its values changed every {interval_s:.3g} s (the exporter's own interval)"
        else:
            note = "its values changed less than twice in this time: the exporter's own interval is longer"
        if not self._values.keys() & PROFILING:
            note = f"no PROF fields: the exporter is not set to give them, or the GPU has none; {note}"
        return SourceState(source=self.name, metrics=tuple(self._values), note=note)

    def close(self) -> None:
        """See Source."""
        with contextlib.suppress(OSError):
            self._connection.close()

    def _scrape(self) -> str:
        """The metrics. OSError, HTTPException or ValueError."""
        self._connection.request("GET", self._path, headers={"Accept": "text/plain", "User-Agent": "kts"})
        answer = self._connection.getresponse()
        body = answer.read(MOST_BYTES + 1)
        if answer.status != http.client.OK:
            self._connection.close()
            raise ValueError(f"HTTP {answer.status} {answer.reason}")
        if len(body) > MOST_BYTES:
            self._connection.close()
            raise ValueError(f"more than {MOST_BYTES >> 20} MiB")
        return body.decode(errors="replace")


def device_values(text: str, uuid: str) -> dict[str, float]:
    """Metric to value of the GPU ``uuid``, from Prometheus text. Lines of MIG instances and of processes, blank and
    impossible values are left out. Copies for pods are the same value; where they differ each is its pod's, and only
    a line without a pod is the device's."""
    told: dict[str, list[tuple[bool, float]]] = {}
    for field, labels, given in _lines(text):
        metric, factor = FIELDS.get(field, ("", 0.0))
        if not metric or labels.get("uuid") != uuid or any(labels.get(name) for name in NOT_THE_DEVICE):
            continue
        if (value := plausible(metric, given * factor)) is not None:
            told.setdefault(metric, []).append((any(labels.get(name) for name in POD), value))
    values = {}
    for metric, lines in told.items():
        of_device = {value for of_pod, value in lines if not of_pod} or {value for _, value in lines}
        if len(of_device) == 1:
            values[metric] = of_device.pop()
    return values


def _uuids(text: str) -> set[str]:
    return {uuid for _, labels, _ in _lines(text) if (uuid := labels.get("uuid", ""))}


def _lines(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """(field, labels by their name in lower case, value)."""
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            continue
        with contextlib.suppress(ValueError):
            yield found[1], {key.lower(): value for key, value in _LABEL.findall(found[2])}, float(found[3])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
