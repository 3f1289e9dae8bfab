"""Mixes of programs side by side, traced kernel by kernel: does the GPU's time add up? Part of 09_programs.py."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

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

WARM_S = 10.0
RAISED_S = 2.0
READ_S = 0.02
Work = Mapping[int, np.ndarray]
"""How long each launch of a round trip takes alone (ms, medians), by how many launches that has."""


@dataclass(frozen=True)
class Seen:
    """A tenant's round trips while its kernels were traced, and how many it made in each second (1/s) then, and just
    before, while only its calls were: what the tracing of kernels costs a tenant in company."""

    listing: Listing
    kernels_rate: float
    calls_rate: float

    @property
    def slower(self) -> float:
        """By what factor, 1: not at all; NaN where no round trip was told while kernels were traced."""
        return self.calls_rate / self.kernels_rate if self.kernels_rate else float("nan")


@dataclass(frozen=True)
class Accounted:
    """A mix's account, and how much slower its tenants were for being traced kernel by kernel (1: not at all)."""

    account: Account
    slower: Mapping[str, float]


def side_by_side(tenants: Sequence[Tenant], seconds: float, warm_s: float = WARM_S) -> dict[str, Seen]:
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
            process = subprocess.Popen(tenant.work.command, env={**env, **tracer.env}, stdout=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
            traced[tenant.name] = tracer.tracing
        _read(traced, warm_s)
        calls = _read(traced, seconds)
        for tracing in traced.values():
            tracing.raise_level()
        _read(traced, RAISED_S)
        kernels = _read(traced, seconds)
    return {
        name: Seen(_listing(kernels[name]), *(len(_trips(one[name])) / seconds for one in (kernels, calls)))
        for name in traced
    }


def _read(traced: Mapping[str, Tracing], seconds: float) -> dict[str, Kept]:
    kept = {name: Kept() for name in traced}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for name, tracing in traced.items():
            kept[name].add(tracing.read(), time.monotonic_ns())
        time.sleep(READ_S)
    return kept


def _trips(kept: Kept) -> np.ndarray:
    """Of all round trips, those of several processes or threads in order of their begin."""
    trips = np.concatenate([Trips().add(events) for events in kept.processes])
    return trips[np.argsort(trips["begin_ns"], kind="stable")]


def _listing(kept: Kept) -> Listing:
    trips = _trips(kept)
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


def keep(folder: Path, mix: str, seen_in: Mapping[str, Seen]) -> None:
    """What was seen, a file per tenant, for an account by another rule."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, one in seen_in.items():
        launches = one.listing.launches
        np.savez_compressed(
            folder / f"{mix}.{name}.npz",
            begin_ns=one.listing.begin_ns,
            duration_ns=unpacked(launches.duration_ns),
            counts=unpacked(launches.counts),
            apart=unpacked(launches.apart),
            outside=one.listing.outside,
            rates=np.array([one.calls_rate, one.kernels_rate]),
        )


def accounts(
    mixes: Sequence[Sequence[Tenant]], sharing: SharingModel, seconds: float, kept: Path, warm_s: float = WARM_S
) -> Iterator[tuple[str, Accounted]]:
    """By mix; each tenant first alone."""
    tenants = {tenant.name: tenant for mix in mixes for tenant in mix}
    work = {}
    for name, one in tenants.items():
        alone = side_by_side([one], seconds, warm_s)
        keep(kept, "alone", alone)
        work[name] = work_of(alone[name].listing)
    for mix in mixes:
        shared = side_by_side(mix, seconds, warm_s)
        keep(kept, "+".join(shared), shared)
        on_gpu = {name: seen(one.listing, work[name]) for name, one in shared.items()}
        slower = {
            name: one.calls_rate / one.kernels_rate if one.kernels_rate else np.nan for name, one in shared.items()
        }
        yield "+".join(shared), Accounted(account(on_gpu, sharing), slower)
