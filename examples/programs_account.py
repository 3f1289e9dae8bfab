"""Mixes of programs side by side, traced kernel by kernel: does the GPU's time add up? Part of 09_programs.py."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from kts.model.plan import Program, Tenant
from kts.model.records import RECORD
from kts.physics.conservation import Account, OnGpu, account
from kts.physics.simulate import SharingModel
from kts.physics.values import Floats, Ints
from kts.wire.recording import unpacked
from kts.worker.tenants.tracer import tracer_for
from kts.worker.tracing.kept import Kept
from kts.worker.tracing.listed import listed
from kts.worker.tracing.reader import Tracing
from kts.worker.tracing.trips import Trips

WARM_S = 10.0
RAISED_S = 2.0
READ_S = 0.02
Work = Mapping[int, np.ndarray]
"""How long each launch of a round trip takes alone (ms, medians), by how many launches that has."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A tenant's round trips while its kernels were traced. By kernel: when it began (0: not seen), how long it took,
    and whether it was a copy engine's; by round trip: how many it had. ``outside``: share of the GPU's time that was
    launched in no round trip. ``rates``: round trips per second while only calls were traced, and just after, while
    kernels were: what that costs a tenant in company."""

    begin_ns: Ints
    duration_ns: Ints
    apart: Ints
    counts: Ints
    outside: float
    rates: Floats

    @property
    def slower(self) -> float:
        """By what factor, 1: not at all; NaN where no round trip was told while kernels were traced."""
        return float(self.rates[0] / self.rates[1]) if self.rates[1] else float("nan")


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
    return {name: _seen(kernels[name], calls[name], seconds) for name in traced}


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


def _seen(kernels: Kept, calls: Kept, seconds: float) -> Seen:
    trips = _trips(kernels)
    rows = np.zeros(len(trips), RECORD)
    rows["submit_ns"], rows["retire_ns"] = trips["begin_ns"], trips["end_ns"]
    found = listed(kernels.processes, rows, gaps=kernels.gaps)
    kinds = (unpacked(each) for each in (found.launches.duration_ns, found.launches.apart, found.launches.counts))
    return Seen(found.begin_ns, *kinds, found.outside, np.array([len(_trips(calls)), len(trips)]) / seconds)


def work_of(alone: Seen) -> Work:
    """See Work."""
    first, found = np.cumsum(alone.counts) - alone.counts, {}
    for count in np.unique(alone.counts).tolist():
        rows = first[alone.counts == count][:, None] + np.arange(count)
        found[count] = np.median(alone.duration_ns[rows] / 1e6, axis=0)
    return found


def on_gpu(shared: Seen, work: Work) -> OnGpu:
    """What a tenant did on the GPU. A round trip of a kind that it never made alone counts as long as it was seen."""
    begin, duration = shared.begin_ns / 1e6, shared.duration_ns / 1e6
    alone = np.concatenate([work.get(count, np.full(count, np.nan)) for count in shared.counts.tolist()])
    alone = np.where(np.isnan(alone), duration, alone)
    kernels = (shared.apart == 0) & (shared.begin_ns > 0)
    order = np.argsort(begin[kernels], kind="stable")
    columns = (begin, begin + duration, alone)
    return OnGpu(*(column[kernels][order] for column in columns))


def measure(mixes: Sequence[Sequence[Tenant]], seconds: float, folder: Path, warm_s: float = WARM_S) -> None:
    """Each tenant alone, then each mix, into a file per tenant."""
    folder.mkdir(parents=True, exist_ok=True)
    tenants = {tenant.name: tenant for mix in mixes for tenant in mix}
    for beside in [*([one] for one in tenants.values()), *mixes]:
        for name, one in side_by_side(beside, seconds, warm_s).items():
            np.savez_compressed(_file(folder, [tenant.name for tenant in beside], name), **vars(one))


def measured(folder: Path, mix: Sequence[str]) -> bool:
    """Whether all that an account of this mix takes is there."""
    return all(_file(folder, beside, name).exists() for name in mix for beside in ([name], mix))


def _file(folder: Path, mix: Sequence[str], name: str) -> Path:
    return folder / f"{'+'.join(mix)}.{name}.npz"


def _read_file(file: Path) -> Seen:
    with np.load(file) as columns:
        return Seen(**{field.name: columns[field.name] for field in fields(Seen)})


def accounts(mixes: Sequence[Sequence[str]], sharing: SharingModel, folder: Path) -> Iterator[tuple[str, Accounted]]:
    """By mix, of what was measured."""
    work = {name: work_of(_read_file(_file(folder, [name], name))) for mix in mixes for name in mix}
    for mix in mixes:
        shared = {name: _read_file(_file(folder, mix, name)) for name in mix}
        gpu = {name: on_gpu(one, work[name]) for name, one in shared.items()}
        yield "+".join(mix), Accounted(account(gpu, sharing), {name: one.slower for name, one in shared.items()})
