"""Mixes of programs side by side, traced kernel by kernel: does the GPU's time add up? Part of 09_programs.py."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import numpy as np

from kts.model.plan import Program, Tenant
from kts.model.records import RECORD
from kts.physics.conservation import Account, OnGpu, account
from kts.physics.simulate import SharingModel
from kts.wire.recording import unpacked
from kts.worker.tenants.tracer import tracer_for
from kts.worker.tracing.kept import Kept
from kts.worker.tracing.listed import Listing, listed
from kts.worker.tracing.reader import Tracing
from kts.worker.tracing.trips import Trips

WARM_S = 5.0
READ_S = 0.02
Work = Mapping[int, np.ndarray]
"""How long each launch of a round trip takes alone (ms, medians), by how many launches that has."""


def side_by_side(tenants: Sequence[Tenant], seconds: float, warm_s: float = WARM_S) -> dict[str, Listing]:
    """Their round trips while all of them run, once all are warm."""
    with ExitStack() as stack:
        traced = {}
        for tenant in tenants:
            assert isinstance(tenant.work, Program)
            env = {**os.environ, **tenant.work.env}
            tracer = tracer_for(tenant.work, on_gpu=True, given=env, beside=False)
            if tracer.tracing is None:
                raise SystemExit(f"{tenant.name}: {tracer.why}")
            stack.callback(tracer.tracing.close)
            tracer.tracing.raise_level()
            process = subprocess.Popen(tenant.work.command, env={**env, **tracer.env}, stdout=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
            traced[tenant.name] = tracer.tracing
        _read(traced, warm_s)
        kept = _read(traced, seconds)
    return {name: _listing(one) for name, one in kept.items()}


def _read(traced: Mapping[str, Tracing], seconds: float) -> dict[str, Kept]:
    kept = {name: Kept() for name in traced}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for name, tracing in traced.items():
            kept[name].add(tracing.read(), time.monotonic_ns())
        time.sleep(READ_S)
    return kept


def _listing(kept: Kept) -> Listing:
    """Of all round trips, those of several processes or threads in order of their begin."""
    trips = np.concatenate([Trips().add(events) for events in kept.processes])
    trips = trips[np.argsort(trips["begin_ns"], kind="stable")]
    rows = np.zeros(len(trips), RECORD)
    rows["submit_ns"], rows["retire_ns"] = trips["begin_ns"], trips["end_ns"]
    return listed(kept.processes, rows, gaps=kept.gaps)


def work_of(alone: Listing) -> Work:
    """See Work."""
    counts, duration = unpacked(alone.launches.counts), unpacked(alone.launches.duration_ns) / 1e6
    first = np.cumsum(counts) - counts
    found = {}
    for count in np.unique(counts).tolist():
        rows = first[counts == count][:, None] + np.arange(count)
        found[count] = np.median(duration[rows], axis=0)
    return found


def seen(shared: Listing, work: Work) -> OnGpu:
    """What a tenant did on the GPU. A round trip of a kind that it never made alone counts as long as it was seen."""
    counts = unpacked(shared.launches.counts)
    duration = unpacked(shared.launches.duration_ns) / 1e6
    alone = np.concatenate([work.get(count, np.full(count, np.nan)) for count in counts.tolist()])
    alone = np.where(np.isnan(alone), duration, alone)
    begin = shared.begin_ns / 1e6
    kernels = (unpacked(shared.launches.apart) == 0) & (shared.begin_ns > 0)
    order = np.argsort(begin[kernels], kind="stable")
    columns = (begin, begin + duration, alone)
    return OnGpu(*(column[kernels][order] for column in columns))


def accounts(
    mixes: Sequence[Sequence[Tenant]], sharing: SharingModel, seconds: float, warm_s: float = WARM_S
) -> dict[str, Account]:
    """By mix; each tenant first alone."""
    tenants = {tenant.name: tenant for mix in mixes for tenant in mix}
    work = {name: work_of(side_by_side([one], seconds, warm_s)[name]) for name, one in tenants.items()}
    found = {}
    for mix in mixes:
        shared = side_by_side(mix, seconds, warm_s)
        found["+".join(shared)] = account({name: seen(one, work[name]) for name, one in shared.items()}, sharing)
    return found
