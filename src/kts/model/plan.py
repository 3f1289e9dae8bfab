"""The frozen plan of a run: who runs, how large the work is, which tenants are active in which block.

A plan is made by `kts.plan` from an experiment file, completed once by the conductor (sizes that
calibration found), written to run.json, and never changed after that.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Design = Literal["classic", "interleaved"]
WorkloadName = Literal["fft", "gemm", "tiny", "decode", "command"]
Library = Literal["auto", "torch", "cupy", "numpy"]
DeviceChoice = Literal["auto", "cuda", "cpu"]


class Slo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the tenant's owner was promised. ``p99_ms``: response p99 at most; ``deadline_ms``: an
    iteration whose response is longer is a miss (goodput counts the others)."""

    p99_ms: float | None = None
    deadline_ms: float | None = None


class Closed(msgspec.Struct, frozen=True, kw_only=True, tag="closed"):
    """Closed loop: the next iteration starts a think time after the last one ended.

    Each think time is uniform in ``think_ms * [1 - jitter, 1 + jitter]``.
    """

    think_ms: float = 0.0
    jitter: float = 0.5


class Poisson(msgspec.Struct, frozen=True, kw_only=True, tag="poisson"):
    """Open loop: due times of a Poisson process."""

    rate_hz: float

    @property
    def interval_ms(self) -> float:
        """Mean time from one due time to the next."""
        return 1000.0 / self.rate_hz


class Trace(msgspec.Struct, frozen=True, kw_only=True, tag="trace"):
    """Open loop: due times (ms from the start, rising). After ``period_ms`` they begin again."""

    due_ms: tuple[float, ...]
    period_ms: float

    @property
    def interval_ms(self) -> float:
        """Mean time from one due time to the next."""
        return self.period_ms / len(self.due_ms)


Arrivals = Closed | Poisson | Trace
"""The arrival processes, told apart by the tag ``type``. Open loop: due times come whether or not the last iteration
is done; one is in flight, the others wait their turn."""


def cycle_ms(arrivals: Arrivals, service_ms: float) -> float:
    """Mean time from one iteration to the next of a tenant whose iterations take ``service_ms``."""
    if isinstance(arrivals, Closed):
        return service_ms + arrivals.think_ms
    return max(service_ms, arrivals.interval_ms)


def pause_ms(arrivals: Arrivals, service_ms: float = 0.0) -> float:
    """Mean time that it leaves the device alone between two iterations."""
    return cycle_ms(arrivals, service_ms) - service_ms


class Decoder(msgspec.Struct, frozen=True, kw_only=True):
    """The decoder of a ``decode`` tenant, but for its width, which is the work's ``size``.

    ``context``: positions attended to. ``graph``: its launches are captured once and replayed as one CUDA graph.
    """

    layers: int = 6
    context: int = 1024
    graph: bool = False


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What one tenant runs.

    ``size``: edge of the square problem (fft, gemm), elements (tiny), or width of the model (decode).
    Exactly one of ``size`` and ``target_ms`` is given for fft and gemm; calibration fills ``size`` for a
    ``target_ms``. ``decoder`` is for the workload ``decode``, ``command`` (argv) and ``env`` for ``command`` alone.
    """

    workload: WorkloadName
    size: int | None = None
    target_ms: float | None = None
    library: Library = "auto"
    warmup: int = 5
    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    decoder: Decoder | None = None


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant. ``iterations`` or ``seconds`` is the amount wanted per condition, over all rounds."""

    name: str
    work: Work
    arrivals: Arrivals = Closed()
    iterations: int | None = None
    seconds: float | None = None
    slo: Slo = Slo()
    seed: int = 0


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A set of tenants active together. ``name``: ``solo-fft``, ``shared-fft+gemm``."""

    name: str
    tenants: tuple[str, ...]

    @property
    def is_solo(self) -> bool:
        """True where one tenant has the device to itself."""
        return len(self.tenants) == 1


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """How much one tenant does in one block: a number of iterations, or a time, never both.

    With ``linger`` the tenant goes on after its iterations until it is told to stop, so that its
    neighbours never run alone in a shared block; without (classic design) it stops at once.
    """

    iterations: int | None = None
    seconds: float | None = None
    linger: bool = True


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time with a fixed set of active tenants. ``index`` is unique within the run."""

    index: int
    round: int
    condition: str
    quotas: dict[str, Quota]

    @property
    def tenants(self) -> tuple[str, ...]:
        """The active tenants, in the plan's order."""
        return tuple(self.quotas)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is decided before the first timed iteration.

    ``rounds`` is the number of rounds always run; with ``precision`` set, more follow (up to
    ``max_rounds`` and ``max_seconds`` of measuring) until the 95 % interval of every tenant's
    response DF99, in every shared condition, is within +-``precision`` (relative). ``precision``
    None: exactly ``rounds``.
    """

    name: str
    design: Design
    tenants: tuple[Tenant, ...]
    conditions: tuple[Condition, ...]
    rounds: int
    max_rounds: int
    precision: float | None = None
    max_seconds: float | None = None
    device: DeviceChoice = "auto"
    seed: int = 0
    allow_different_gpus: bool = False

    def tenant(self, name: str) -> Tenant:
        """The tenant of that name. KeyError if there is none."""
        for tenant in self.tenants:
            if tenant.name == name:
                return tenant
        raise KeyError(name)

    def condition(self, name: str) -> Condition:
        """The condition of that name. KeyError if there is none."""
        for condition in self.conditions:
            if condition.name == name:
                return condition
        raise KeyError(name)

    def solo(self, tenant: str) -> Condition:
        """The condition in which ``tenant`` runs alone. KeyError if the plan has none."""
        return next((c for c in self.conditions if c.tenants == (tenant,)), None) or _missing(tenant)

    @property
    def mixes(self) -> tuple[Condition, ...]:
        """The shared conditions, the full house last; empty where every tenant only runs alone."""
        house = self.full_house
        together = [c for c in self.conditions if not c.is_solo and c.name != house.name]
        return tuple(together) if house.is_solo else (*together, house)

    @property
    def full_house(self) -> Condition:
        """The condition with the most tenants: the one that the headline's "shared" means."""
        return max(self.conditions, key=lambda c: len(c.tenants))


def _missing(tenant: str) -> Condition:
    raise KeyError(f"no solo condition for {tenant}")
