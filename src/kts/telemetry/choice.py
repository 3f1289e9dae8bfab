"""Which sources a run has, and what each says here: the part that knows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from kts.model.neighbours import Look
from kts.model.plan import Plan
from kts.model.telemetry import SourceState
from kts.telemetry.dcgm import DcgmSource
from kts.telemetry.gpm import GpmSource
from kts.telemetry.nvml import NvmlSource
from kts.telemetry.processes import ProcessSource
from kts.telemetry.sampler import PERIOD_NS, Polling, Sampler, Tenants
from kts.telemetry.source import AbsentSource, Source
from kts.telemetry.strangers import Strangers
from kts.telemetry.xid import XidSource
from kts.units import NS_PER_S

PROBE_S = 0.6


class Reading(NamedTuple):
    """What a source says of a device: its state, and the newest value of each metric."""

    state: SourceState
    values: dict[str, float]


def make_sampler(
    plan: Plan | None = None, told: Callable[[Look], None] | None = None, dcgm: str = "", dcgm_missing: str = ""
) -> Sampler:
    """The telemetry of a run. ``dcgm``: URL of a dcgm-exporter to scrape, too; ``dcgm_missing``: why there is none,
    though one was asked for. ``told``: of processes on the GPU that are not of ``plan``. UsageError if it is no URL."""
    if dcgm:
        DcgmSource(dcgm)  # a wrong URL is told before anything is measured
    strangers = None
    if plan is not None and told is not None:
        one_each = plan.design != "classic" and all(tenant.work.in_thread for tenant in plan.tenants)
        strangers = Strangers(told, [tenant.name for tenant in plan.tenants], countable=one_each)
    return Sampler(lambda tenants: polled_sources(tenants, dcgm, dcgm_missing), strangers=strangers)


def probe(
    uuid: str, dcgm: str = "", dcgm_missing: str = "", *, sleep: Callable[[float], None] = time.sleep
) -> list[Reading]:
    """Opens every polled source of a GPU and samples it for a moment; takes about a second. Raises nothing.

    Utilisation per process is only opened: whose processes NVML tells of shows when tenants run.
    """
    asked = polled_sources(Tenants(), dcgm, dcgm_missing)
    polling = Polling([source for source in asked if source.name != ProcessSource.name], uuid)
    states = {state.source: state for state in polling.open()}
    values: dict[str, dict[str, float]] = {name: {} for name in states}
    for _ in range(round(PROBE_S * NS_PER_S / PERIOD_NS)):
        failed, samples = polling.poll()
        states |= {state.source: state for state in failed}
        for sample in samples:
            values[sample.source][sample.metric] = sample.value
        sleep(PERIOD_NS / NS_PER_S)
    gone = {name for name, state in states.items() if state.missing}
    states |= {state.source: state for state in polling.close() if state.source not in gone}
    per_process = Polling([ProcessSource(dict)], uuid)
    (offered,) = per_process.open()
    per_process.close()
    return [*(Reading(state, values[name]) for name, state in states.items()), Reading(offered, {})]


def polled_sources(tenants: Tenants, dcgm: str = "", dcgm_missing: str = "") -> list[Source]:
    """Those that a thread must ask, the finest first."""
    sources: list[Source] = [GpmSource(), NvmlSource(), ProcessSource(tenants.by_pid), XidSource()]
    if dcgm:
        return [*sources, DcgmSource(dcgm, tenants=tenants.by_host)]
    return [*sources, AbsentSource(DcgmSource.name, dcgm_missing)] if dcgm_missing else sources
