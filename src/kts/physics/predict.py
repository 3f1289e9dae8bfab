"""From profiles and a fingerprint to what a mix will do, with bands. Deterministic by seed.

The figures come from one long simulation with the fingerprint and the profiles as they are. The bands come from
replicates, each as long as the run that is predicted: the fingerprint is drawn from its intervals, the profile's
iterations are resampled in blocks, and arrivals and phases are drawn anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as with_columns
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from kts.arrivals import Closed
from kts.model.plan import PROGRAM
from kts.physics.draws import cycle_ms, cycles_ms, generator, runs, sharing, streams
from kts.physics.fitted import TRACED_GAP_MS, in_mode
from kts.physics.forecast import (
    FIGURES,
    Band,
    Figures,
    MixForecast,
    ModelError,
    Plain,
    Prediction,
    ProfileUsed,
    TenantForecast,
)
from kts.physics.hosts import Host, late
from kts.physics.hosts import drawn as drawn_host
from kts.physics.kinds import host_share, kind_of
from kts.physics.profiling import events_at_once, queued_kernels
from kts.physics.rules import PROCESSOR_SHARING, as_burst, overlaid
from kts.physics.side_by_side import are_side_by_side, crowded, simulated_apart
from kts.physics.simulate import Completed, SharingModel, Simulated, Stream, simulate, together
from kts.physics.summaries import only, plain, ratio, times
from kts.physics.values import Fingerprint, Floats, Ints, Profile
from kts.stats.quantiles import ENOUGH, QUANTILES, label, min_samples

FULL = "p99"
"""From the profiles that support this quantile p99.9 is told, too: what is beyond is the turns of others, which the
simulation knows, and not a profile."""
SPARE = 1.3
"""Iterations drawn per iteration expected: a simulation must not end because a tenant ran out of them."""
Each = Callable[[Callable[[int], Any], Iterable[int]], Iterable[Any]]
"""As `map`."""


@dataclass(frozen=True)
class Effort:
    """How much to simulate. ``iterations``: of the slowest tenant, for the figures themselves; ``budget`` and
    ``launches``: of all tenants, at most. ``replicates`` for the bands, each ``seconds`` long, or as long as
    ``replicate_budget`` iterations or ``replicate_launches`` of all tenants last if that is shorter. ``confidence``:
    nominal, of the bands."""

    iterations: int = 20_000
    budget: int = 2_000_000
    launches: int = 200_000_000
    seconds: float = 600.0
    replicates: int = 100
    replicate_budget: int = 200_000
    replicate_launches: int = 15_000_000
    confidence: float = 0.9
    seed: int = 0


@dataclass
class Predictor:
    """Predicts mixes of ``profiles`` (by name). What every mix needs of a tenant alone is computed once.

    ``each``: does as `map` does with the replicates; threads may, as simulating keeps no lock.
    """

    profiles: Mapping[str, Profile]
    fingerprint: Fingerprint
    effort: Effort = Effort()
    model_error: ModelError = ModelError()  # noqa: RUF009 - frozen
    priorities: Mapping[str, int] = field(default_factory=dict)
    at_once: bool = False
    order_known: bool = False
    each: Each = map

    def __post_init__(self) -> None:
        self._alone: dict[str, _Alone] = {}
        gap_ms = min(TRACED_GAP_MS, self.fingerprint.launch_gap_ms.value)
        self.profiles = {name: queued_kernels(profile, gap_ms) for name, profile in self.profiles.items()}
        if self.fingerprint.in_line:
            self.profiles = {name: events_at_once(profile) for name, profile in self.profiles.items()}
        self.side_by_side = are_side_by_side(self.fingerprint, self.profiles)
        self.model_error = in_mode(self.model_error, self.fingerprint, side_by_side=self.side_by_side)

    def predict(
        self,
        mixes: Sequence[Sequence[str]],
        *,
        seconds: Sequence[float] | None = None,
        kts: str = "",
        notes: Sequence[str] = (),
    ) -> Prediction:
        """Every mix, each a list of profile names; a name may come more than once. KeyError for an unknown one.

        ``seconds``: of each mix, where they differ.
        """
        lengths: Sequence[float | None] = seconds if seconds is not None else [None] * len(mixes)
        used = sorted({name for mix in mixes for name in mix})
        return Prediction(
            kts=kts,
            fingerprint=self.fingerprint,
            profiles={name: _used(self.profiles[name]) for name in used},
            seconds=self.effort.seconds,
            confidence=self.effort.confidence,
            replicates=self.effort.replicates,
            seed=self.effort.seed,
            model_error=self.model_error,
            mixes=tuple(self.mix(mix, length) for mix, length in zip(mixes, lengths, strict=True)),
            order_known=self.order_known,
            notes=(*notes, *(note for name in used if (note := self._too_few(name)))),
        )

    def _supported(self, *names: str) -> list[str]:
        """Figures that the profiles of these tenants support."""
        n = min(sample_size(self.profiles[name]) for name in names)
        known = [name for name, p in QUANTILES.items() if n >= ENOUGH * min_samples(p)]
        return [name for name in FIGURES if name not in QUANTILES or name in known or FULL in known]

    def _too_few(self, name: str) -> str:
        lacking = [label(QUANTILES[figure]) for figure in FIGURES if figure not in self._supported(name)]
        n = sample_size(self.profiles[name])
        return f"{name}: {n} iterations alone support no {' or '.join(lacking)} of a mix" if lacking else ""

    def mix(self, names: Sequence[str], seconds: float | None = None) -> MixForecast:
        """One mix, with bands for ``seconds`` of it."""
        tenants = numbered(names)
        for name in names:
            self.alone(name)
        central = sharing(self.fingerprint, at_once=self.at_once)
        profiles = {tenant: self.profiles[name] for tenant, name in tenants.items()}
        if self.side_by_side:
            profiles = crowded(profiles, self.effort.seed)
        paced = self._paced(profiles, central)
        outcome = paced.together(self._simulate(paced, central, self._horizon(paced)))
        length_ms = 1e3 * (seconds or self.effort.seconds)
        again = partial(self._replicate, tenants, paced, length_ms)
        replicates = list(self.each(again, range(self.effort.replicates)))
        supported = self._supported(*names)
        baselines = self._baselines(tenants, central, supported)
        forecasts = {
            tenant: self._tenant(
                name,
                done,
                outcome.end_ms,
                [rows[tenant] for rows in replicates],
                baselines[tenant],
                supported=supported,
            )
            for (tenant, name), done in zip(tenants.items(), outcome.tenants, strict=True)
        }
        busy = sum(tenant.busy_ms for tenant in outcome.tenants)
        if self.side_by_side:  # at the same time, too
            busy = outcome.end_ms - outcome.idle_ms
        return MixForecast(
            name="+".join(tenants),
            tenants=forecasts,
            busy=busy / outcome.end_ms,
            switching=outcome.switch_ms / outcome.end_ms,
            idle=outcome.idle_ms / outcome.end_ms,
            seconds=seconds,
        )

    def _tenant(
        self,
        name: str,
        done: Completed,
        end_ms: float,
        again: Sequence[_Row],
        baselines: _Baselines,
        *,
        supported: Sequence[str],
    ) -> TenantForecast:
        profile, alone = self.profiles[name], self.alone(name)
        response = only(supported, plain(done.response_ms))
        on_device = only(supported, plain(self._device(done, profile)))
        deadline = profile.deadline_ms
        missed = None
        if deadline is not None:
            value = float((done.response_ms > deadline).mean()) if len(done.response_ms) else None
            missed = self._band(value, np.array([row.missed for row in again]), floor=0.0)
        return TenantForecast(
            profile=name,
            iterations=len(done.retire_ms),
            response=self._figures(response, [row.response for row in again]),
            service=self._figures(only(supported, plain(done.service_ms)), [row.service for row in again]),
            device=self._figures(on_device, [row.device for row in again]),
            solo_source="profiled" if alone.profiled else "simulated",
            solo=alone.response,
            solo_device=alone.device,
            df=self._figures(ratio(response, alone.response), [row.df for row in again]),
            device_df=self._figures(ratio(on_device, alone.device), [row.device_df for row in again]),
            rate_hz=self._band(1000 * len(done.retire_ms) / end_ms, np.array([row.rate_hz for row in again])),
            solo_rate_hz=alone.rate_hz,
            gpu_share=done.busy_ms / end_ms,
            overloaded=not isinstance(profile.arrivals, Closed) and _falls_behind(done, end_ms),
            deadline_ms=deadline,
            missed=missed,
            baselines=baselines,
        )

    def alone(self, name: str) -> _Alone:
        """A tenant alone: measured without a tracer where the profile has enough of it, else simulated."""
        if name not in self._alone:
            self._alone[name] = self._make_alone(name)
        return self._alone[name]

    def _make_alone(self, name: str) -> _Alone:
        profile, central = self.profiles[name], sharing(self.fingerprint)
        paced = self._paced({name: profile}, central)
        outcome = paced.together(self._simulate(paced, central, self._horizon(paced)))
        done = outcome.tenants[0]
        response, device = done.response_ms, self._device(done, profile)
        # A closed loop's response is its service time; an open one's also depends on its arrivals.
        profiled = profile.solo_service.n >= min_samples(QUANTILES["p99"]) and isinstance(profile.arrivals, Closed)
        if profiled:
            response = profile.solo_service.ms
            device = profile.solo_device.ms if profile.solo_device.n else device
        rate_hz = 1000 * len(done.retire_ms) / outcome.end_ms
        own = self._supported(name)
        return _Alone(only(own, plain(response)), only(own, plain(device)), response, device, profiled, rate_hz)

    def _replicate(self, tenants: Mapping[str, str], paced: _Paced, length_ms: float, number: int) -> dict[str, _Row]:
        seed = self.effort.seed + 1 + number
        if not self.order_known:
            shuffled = [list(tenants)[k] for k in generator(seed, "order").permutation(len(tenants))]
            tenants = {tenant: tenants[tenant] for tenant in shuffled}
            paced = _Paced(
                {tenant: paced.profiles[tenant] for tenant in shuffled},
                {tenant: paced.each[tenant] for tenant in shuffled},
            )
        drawn = sharing(self.fingerprint, generator(seed, "sharing").standard_normal(5), at_once=self.at_once)
        hosts = self._hosts(tenants, seed)
        among = {}
        for tenant, name in tenants.items():
            n = self.profiles[name].iterations.n
            among[tenant] = runs(generator(seed, "profile", name), n, n)
        horizon = min(length_ms, paced.lasting_ms(self.effort.replicate_budget, self.effort.replicate_launches))
        slower = {tenant: host.shared for tenant, host in hosts.items()}
        outcome = paced.together(self._simulate(paced, drawn, horizon, seed=seed, among=among, hosts=slower))
        rows = {}
        for (tenant, name), done in zip(tenants.items(), outcome.tenants, strict=True):
            rng = generator(seed, "solo", tenant)
            rows[tenant] = self._row(name, done, outcome.end_ms, hosts[tenant].solo, rng)
        return rows

    def _hosts(self, tenants: Mapping[str, str], seed: int) -> dict[str, Host]:
        """One draw of each tenant's; programs' have a part in common."""
        slower = generator(seed, "programs' hosts").standard_normal()
        return {
            tenant: drawn_host(
                self.model_error,
                generator(seed, "host", tenant),
                slower if self.profiles[name].workload == PROGRAM else 0.0,
            )
            for tenant, name in tenants.items()
        }

    def _row(self, name: str, done: Completed, end_ms: float, host: float, rng: np.random.Generator) -> _Row:
        profile, alone = self.profiles[name], self.alone(name)
        kind = kind_of(profile)
        factor = float(np.exp(self.model_error.of(kind) * rng.standard_normal()))
        device = self._device(done, profile)
        response, on_device = plain(done.response_ms * factor, 1), plain(device * factor, 1)
        future = max(2, round(end_ms / cycle_ms(profile)))
        slower = 1 + (host - 1) * host_share(profile)
        slower *= float(np.exp(self.model_error.solo.get(kind, 0.0) * rng.standard_normal()))
        solo, solo_device = (
            plain(slower * sample[runs(rng, len(sample), future)], 1) for sample in (alone.response_ms, alone.device_ms)
        )
        deadline = np.inf if profile.deadline_ms is None else profile.deadline_ms
        return _Row(
            response=response,
            service=plain(done.service_ms * factor, 1),
            device=on_device,
            df=ratio(response, solo),
            device_df=ratio(on_device, solo_device),
            rate_hz=1000 * len(done.retire_ms) / end_ms,
            missed=float((done.response_ms * factor > deadline).mean()) if len(device) else np.nan,
        )

    def _baselines(
        self, tenants: Mapping[str, str], central: SharingModel, supported: Sequence[str]
    ) -> dict[str, _Baselines]:
        """Response by rules that know less: sharing costs nothing; N times as long; every iteration one kernel;
        processor sharing."""
        single = self._paced(
            {tenant: as_burst(self.profiles[name], central) for tenant, name in tenants.items()}, central
        )
        outcome = single.together(self._simulate(single, central, self._horizon(single)))
        overlay = overlaid(
            {tenant: self.profiles[name] for tenant, name in tenants.items()},
            {tenant: self.alone(name).response_ms for tenant, name in tenants.items()},
        )
        found = {}
        for (tenant, name), done in zip(tenants.items(), outcome.tenants, strict=True):
            solo = self.alone(name).response
            found[tenant] = {
                "df-1": solo,
                "n-times-solo": times(solo, len(tenants)),
                "single-burst": only(supported, plain(done.response_ms)),
                PROCESSOR_SHARING: only(supported, overlay[tenant]),
            }
        return found

    def _device(self, done: Completed, profile: Profile) -> Floats:
        """What the device's own stopwatch would show. Thread CPU time stands still in the turns of others."""
        if self.fingerprint.gpu.kind == "cpu":
            return np.full(len(done.end_ms), float(profile.iterations.busy_ms.mean()))
        waits = profile.stopwatch_waits and not self.fingerprint.in_line
        if not waits and profile.solo_device.n:
            outside = float(np.median(profile.solo_service.ms) - np.median(profile.solo_device.ms))
            return np.maximum(done.service_ms - outside, 0.0)
        return done.device_ms

    def _paced(self, profiles: Mapping[str, Profile], how: SharingModel) -> _Paced:
        """The rates in the mix, from a short simulation; those alone where that shows too few iterations."""
        alone = _Paced(
            profiles, {tenant: [1 / max(ms, 1e-6) for ms in cycles_ms(profile)] for tenant, profile in profiles.items()}
        )
        each = alone.rates.values()
        horizon = min(max(5000 / sum(each), 20 / min(each)), 200_000 / sum(each))
        threads = self._simulate(alone, how, horizon)
        counts = iter(len(done.retire_ms) for done in threads.tenants)
        return _Paced(
            profiles,
            {
                tenant: [n / threads.end_ms if (n := next(counts)) >= 20 else rate for rate in rates]
                for tenant, rates in alone.each.items()
            },
        )

    def _horizon(self, paced: _Paced) -> float:
        """Length of the long simulation (ms): until the slowest tenant has enough, or all have used the budget."""
        slowest = min(paced.rates.values())
        return min(self.effort.iterations / slowest, paced.lasting_ms(self.effort.budget, self.effort.launches))

    def _simulate(
        self,
        paced: _Paced,
        how: SharingModel,
        horizon: float,
        *,
        seed: int | None = None,
        among: Mapping[str, Ints] | None = None,
        hosts: Mapping[str, float] | None = None,
    ) -> Simulated:
        """By thread, those of a tenant one after the other."""
        seed = self.effort.seed if seed is None else seed
        found: list[list[Stream]] = []
        for tenant, profile in paced.profiles.items():
            slower = (hosts or {}).get(tenant, 1.0)
            planned = [round(rate * horizon * SPARE / min(slower, 1.0)) + 50 for rate in paced.each[tenant]]
            chosen = among[tenant] if among else None
            priority = self.priorities.get(tenant, 0)
            made = streams(profile, planned, seed, tenant, among=chosen, priority=priority, host=slower)
            on_gpu = profile.gpu.kind == "cuda"
            found.append([late(one, generator(seed, "late", tenant)) if on_gpu else one for one in made])
        if self.side_by_side:
            return simulated_apart(found, how, horizon)
        return simulate([one for of_tenant in found for one in of_tenant], how, horizon_ms=horizon)

    def _figures(self, centre: Plain, replicates: Sequence[Plain]) -> Figures:
        return Figures(
            **{
                name: self._band(
                    getattr(centre, name), np.array([getattr(row, name) for row in replicates], np.float64)
                )
                for name in FIGURES
            }
        )

    def _band(self, value: float | None, replicates: Floats, floor: float = -np.inf) -> Band:
        """The central ``confidence`` of the replicates, and the value itself.

        Quantiles of Weibull's kind: a further draw falls between them with just that probability.
        """
        found = replicates[np.isfinite(replicates)]
        if value is None or not np.isfinite(value):
            return Band(value=None, lo=None, hi=None)
        if not len(found):
            return Band(value=value, lo=None, hi=None)
        tail = (1 - self.effort.confidence) / 2
        lo, hi = np.quantile(found, [tail, 1 - tail], method="weibull")
        return Band(value=value, lo=max(float(min(lo, value)), floor), hi=float(max(hi, value)))


_Baselines = dict[str, Plain]


@dataclass(frozen=True, eq=False)
class _Paced:
    """Tenants and how often each of their threads makes an iteration in the mix (per ms): that many are drawn."""

    profiles: Mapping[str, Profile]
    each: Mapping[str, Sequence[float]]

    @property
    def rates(self) -> dict[str, float]:
        """Of whole tenants."""
        return {tenant: sum(rates) for tenant, rates in self.each.items()}

    def lasting_ms(self, iterations: int, launches: int) -> float:
        """How long all tenants together take for that many, whichever comes first."""
        of_each = ((rate, self.profiles[tenant].iterations) for tenant, rate in self.rates.items())
        launched = sum(rate * len(them.offset_ms) / them.n for rate, them in of_each)
        return min(iterations / sum(self.rates.values()), launches / launched)

    def together(self, outcome: Simulated) -> Simulated:
        """Of whole tenants, from one whose iterations are by thread."""
        done = iter(outcome.tenants)
        whole = tuple(together([next(done) for _ in rates]) for rates in self.each.values())
        return with_columns(outcome, tenants=whole)


@dataclass(frozen=True, eq=False)
class _Alone:
    response: Plain
    device: Plain
    response_ms: Floats
    device_ms: Floats
    profiled: bool
    rate_hz: float


@dataclass(frozen=True)
class _Row:
    response: Plain
    service: Plain
    device: Plain
    df: Plain
    device_df: Plain
    rate_hz: float
    missed: float


def numbered(names: Sequence[str]) -> dict[str, str]:
    """Tenant name to profile name: a second ``fft`` is called ``fft-2``."""
    seen: Counter[str] = Counter()
    found = {}
    for name in names:
        seen[name] += 1
        found[name if seen[name] == 1 else f"{name}-{seen[name]}"] = name
    return found


def all_mixes(names: Sequence[str], sizes: Sequence[int] = (2, 3, 4)) -> list[tuple[str, ...]]:
    """Every pair, triple and quad of different profiles."""
    return [mix for size in sizes for mix in combinations(names, size)]


def _falls_behind(done: Completed, end_ms: float) -> bool:
    """True where the backlog at the end is longer than a hundredth of the simulation."""
    return not len(done.due_ms) or float(done.due_ms[-1]) < 0.99 * end_ms


def sample_size(profile: Profile) -> int:
    """How many iterations alone a profile knows."""
    return max(profile.iterations.n, profile.solo_service.n)


def _used(profile: Profile) -> ProfileUsed:
    return ProfileUsed(
        workload=profile.workload,
        size=profile.size,
        method=profile.method,
        iterations=profile.iterations.n,
        device=profile.gpu.label or profile.gpu.name,
        arrivals=profile.arrivals,
        kind=kind_of(profile),
    )
