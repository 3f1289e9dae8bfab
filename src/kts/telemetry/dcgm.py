"""DCGM, as a dcgm-exporter's endpoint tells it: of the device, or of the MIG instance that the tenants are on; of a
tenant only where the exporter tells what its pod's own processes did.

A scrape is answered with what DCGM collected last, as often as the exporter is set to (30 s by default, in newer ones
each group of fields as often as that group is). So only values that differ from those before are news. A momentary
field is news of the moment of the scrape that brought it. A PROF field is a mean: it covers the time since the news
before it, but no more than the exporter's own interval. Nothing reaches over a time without an answer.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

from kts.model.telemetry import Sample, Scope, SourceState
from kts.telemetry import dcgm_values
from kts.telemetry.dcgm_values import PROFILING, Target, ToldValues
from kts.telemetry.nvml import mig_instance
from kts.telemetry.outages import Outages
from kts.telemetry.scrape import ExporterAddress, ScrapeError
from kts.telemetry.source import SourceMissingError
from kts.units import NS_PER_S

INTERVALS_KEPT = 100
LONGER_THAN_USUAL = 1.5
"""Of the exporter's interval: then a collection brought the same values, and the new ones cover the last interval."""
OLDEST_STAMP_NS = 300 * NS_PER_S
"""Of a line's own time; Prometheus, too, takes older values for gone."""


def device_values(text: str, uuid: str) -> dict[str, float]:
    """Metric to value of the GPU ``uuid``, from Prometheus text; see `kts.telemetry.dcgm_values.told`."""
    return dcgm_values.told(text, Target(uuid)).device


class ValueChanges:
    """Values that the exporter collects together, and whose they are: when they changed, and how often they do."""

    def __init__(self, scope: Scope, subject: str) -> None:
        self.scope, self.subject = scope, subject
        self.intervals_ns: deque[int] = deque(maxlen=INTERVALS_KEPT)
        self._values: Mapping[str, float] | None = None
        self._stamp_ns: int | None = None
        self._news_ns: int | None = None

    def forget(self) -> None:
        """What comes next is compared with nothing."""
        self._values = self._stamp_ns = self._news_ns = None

    def news(self, values: Mapping[str, float], t_ns: int, stamp_ns: int | None) -> int | None:
        """How long ``values`` cover if they are news, 0 if that is not known; None if they are none. ``stamp_ns``: the
        time they tell themselves, if they do; ``t_ns`` is then that moment."""
        if not values:
            self.forget()
            return None
        before, stamp_before = self._values, self._stamp_ns
        self._values, self._stamp_ns = dict(values), stamp_ns
        if stamp_ns is not None and stamp_before is not None:
            same = stamp_ns <= stamp_before
        else:
            same = before is None or values == before  # the first were collected nobody knows when
        if same:
            return None
        since_ns, self._news_ns = self._news_ns, t_ns
        if since_ns is None or since_ns >= t_ns:
            return 0
        self.intervals_ns.append(t_ns - since_ns)
        usual_ns = statistics.median_low(self.intervals_ns)
        return t_ns - since_ns if t_ns - since_ns <= LONGER_THAN_USUAL * usual_ns else usual_ns


class DcgmSource:
    """`kts.telemetry.source.Source`. UsageError if ``url`` is none that can be scraped; several, with spaces between,
    are ways to the same exporter, taken in turn. ``tenants``: host name (a pod's is its name) to tenant, as known now.
    ``nvml``: the module, given in tests."""

    name = "dcgm"
    remote = True

    def __init__(
        self,
        url: str,
        *,
        tenants: Callable[[], Mapping[str, str]] = dict,
        nvml: Any = None,
        clock: Callable[[], int] = time.monotonic_ns,
        realtime: Callable[[], int] = time.time_ns,
    ) -> None:
        self._endpoints = deque(ExporterAddress(one) for one in url.split() or [""])
        self.url = " or ".join(endpoint.url for endpoint in self._endpoints)
        self._tenants, self._nvml, self._clock, self._realtime = tenants, nvml, clock, realtime
        self._uuid = ""
        self._target: Target | None = None
        self._outages = Outages(0)
        self._means, self._moments = ValueChanges("device", ""), ValueChanges("device", "")
        self._of_pods: dict[str, ValueChanges] = {}
        self._metrics: dict[str, None] = {}
        self._impossible: Counter[str] = Counter()
        self._impossible_before: list[str] = []

    def open(self, uuid: str) -> SourceState:
        """See Source. An exporter that does not answer yet is asked again; one that tells of other GPUs is missing."""
        self._uuid = uuid
        self._outages = Outages(self._clock())
        self._means, self._moments = ValueChanges("device", uuid), ValueChanges("device", uuid)
        text = self._scraped()
        told = self._told(text)
        if told is not None:
            t_ns = self._clock()
            self._outages.answered(t_ns)
            self._learn(told, t_ns)
        elif (of := dcgm_values.gpus(text or "")) and len(self._endpoints) == 1:
            self.close()
            raise SourceMissingError(self._tells_nothing(of))
        return self.state()

    def sample(self) -> list[Sample]:
        """See Source. Never fails: a time without the exporter is a gap."""
        if not self._outages.due(self._clock()):
            return []
        told = self._told(self._scraped())
        if told is None:
            return []
        t_ns = self._clock()
        if self._outages.answered(t_ns):
            self._forget()
        return self._learn(told, t_ns)

    def state(self) -> SourceState:
        """See Source."""
        gaps = self._outages.gaps()
        if not self._metrics:
            why = gaps[-1].why if gaps else "it was not asked"
            return SourceState(source=self.name, missing=f"no metrics from {self.url}: {why}", gaps=gaps)
        notes = (self._whose(), self._interval(), self._refused(), self._outages.words())
        return SourceState(
            source=self.name, metrics=tuple(self._metrics), note="; ".join(filter(None, notes)), gaps=gaps
        )

    def close(self) -> None:
        """See Source."""
        for endpoint in self._endpoints:
            endpoint.close()

    def _scraped(self) -> str | None:
        """What it answers; None if it does not."""
        try:
            return self._endpoints[0].get()
        except ScrapeError as error:
            self._failed(str(error))
            return None

    def _failed(self, why: str) -> None:
        """The next time another way is tried."""
        self._outages.failed(self._clock(), why)
        self._endpoints.rotate(-1)

    def _told(self, text: str | None) -> ToldValues | None:
        """What it says of the tenants' device; None if nothing, or if nobody says which of the exporter's that is."""
        if text is None:
            return None
        self._target = self._target or self._found_target(text)
        told = dcgm_values.told(text, self._target) if self._target else None
        if told is not None and told.device:
            return told
        self._failed(self._tells_nothing(dcgm_values.gpus(text)))
        return None

    def _found_target(self, text: str) -> Target | None:
        """A MIG instance's lines bear its GPU's UUID: NVML, or the name itself, says which; else the only one."""
        if not self._uuid.startswith("MIG-"):
            return Target(self._uuid)
        if (known := mig_instance(self._uuid, self._nvml)) is not None:
            return Target(*known)
        of = [(uuid, instance) for uuid, parts in dcgm_values.gpus(text).items() for instance in parts if instance]
        return Target(*of[0]) if len(of) == 1 else None

    def _forget(self) -> None:
        for changes in (self._means, self._moments, *self._of_pods.values()):
            changes.forget()

    def _learn(self, told: ToldValues, t_ns: int) -> list[Sample]:
        """What is new in it."""
        self._metrics |= dict.fromkeys(told.device)
        if told.impossible != self._impossible_before:
            self._impossible.update(told.impossible)
            self._impossible_before = told.impossible
        means = {metric: value for metric, value in told.device.items() if metric in PROFILING}
        moments = {metric: value for metric, value in told.device.items() if metric not in PROFILING}
        samples = [*self._news(self._means, means, told, t_ns), *self._news(self._moments, moments, told, t_ns)]
        tenants = self._tenants()
        for pod, share in told.pods.items():
            # 0 may mean that the exporter does not see the pod's processes
            if pod in tenants and (share or pod in self._of_pods):
                self._metrics[dcgm_values.PROCESS_METRIC] = None
                changes = self._of_pods.setdefault(pod, ValueChanges("tenant", tenants[pod]))
                samples += self._news(changes, {dcgm_values.PROCESS_METRIC: share}, told, t_ns)
        return samples

    def _news(self, changes: ValueChanges, values: Mapping[str, float], told: ToldValues, t_ns: int) -> list[Sample]:
        stamp_ns = max((told.stamps_ns[metric] for metric in values if metric in told.stamps_ns), default=None)
        age_ns = self._realtime() - stamp_ns if stamp_ns is not None else -1
        if not 0 <= age_ns <= OLDEST_STAMP_NS:
            stamp_ns, age_ns = None, 0
        span_ns = changes.news(values, t_ns - age_ns, stamp_ns)
        if span_ns is None:
            return []
        return [
            Sample(
                t_ns=t_ns - age_ns,
                span_ns=span_ns if metric in PROFILING else 0,
                source=self.name,
                metric=metric,
                scope=changes.scope,
                subject=changes.subject,
                value=value,
            )
            for metric, value in values.items()
            if span_ns or metric not in PROFILING
        ]

    def _tells_nothing(self, of: Mapping[str, Mapping[str, str]]) -> str:
        whom = self._uuid
        if self._target and self._target.instance:
            whom = f"MIG instance {self._target.instance} of {self._target.uuid} ({whom})"
        elif self._uuid.startswith("MIG-"):
            whom = f"{whom} that could be told from the others (NVML here does not know it)"
        elif self._uuid in of and "" in of[self._uuid]:
            return f"{self.url} gives none of the fields that kts reads of {whom}: set its counters"
        return f"{self.url} tells nothing of {whom}; it tells of {dcgm_values.words(of)}"

    def _whose(self) -> str:
        if self._target is None or not self._target.instance:
            return ""
        of = f"of MIG instance {self._target.instance} of {self._target.uuid}, whoever used it"
        shared = self._metrics.keys() & dcgm_values.OF_THE_WHOLE_GPU
        return f"{of}; {', '.join(sorted(shared))}: of the whole GPU" if shared else of

    def _interval(self) -> str:
        if not self._metrics.keys() & PROFILING:
            return f"no PROF fields: the exporter is not set to give them, or the GPU has none; {_every(self._moments)}"
        return _every(self._means)

    def _refused(self) -> str:
        if not self._impossible:
            return ""
        (example, _), count = self._impossible.most_common(1)[0], self._impossible.total()
        return f"{count} impossible value{'s' if count > 1 else ''} left out ({example})"


def _every(changes: ValueChanges) -> str:
    if changes.intervals_ns:
        interval_s = statistics.median_low(changes.intervals_ns) / NS_PER_S
        return f"its values changed every {interval_s:.3g} s (the exporter's own interval)"
    return "its values changed less than twice in this time: the exporter's own interval is longer"
