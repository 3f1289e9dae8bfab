"""Simulated runs whose true DF99 is known, through the real schedule, stop rule and analysis.

The GPU is the simulator's; everything else is what a run does: the plan and its blocks, the seeds, each tenant's first
submission and pauses, the window of a block, its quotas, the rounds until the stop rule is content, and the figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from kts import __version__
from kts.arrivals import Closed, cycle_ms, first_submission_ns
from kts.model.mode import TIME_SLICING, Evidence, SharingMode
from kts.model.plan import Block, Plan, Tenant
from kts.model.records import RECORD, Records, clock_ms
from kts.model.run import SCHEMA_VERSION, BlockOutcome, Outcome, RunInfo
from kts.model.telemetry import SampleSeries
from kts.physics.draws import generator
from kts.physics.simulate import Completed, Stream, simulate
from kts.physics.synthetic import SHARING, SyntheticKernel, TenantPair
from kts.plan import block_seed, blocks_of_round
from kts.stats import PrecisionRule, analyse, starts
from kts.stats.block import counting
from kts.stats.quantiles import min_samples
from kts.units import NS_PER_MS, ms_to_ns, ns_to_ms

BREAK_NS = 300 * NS_PER_MS
"""Between two blocks of a run."""


_SIMULATED = SharingMode(
    asked=TIME_SLICING,
    evidence=(
        Evidence(mode=TIME_SLICING, seen="its device gives turns, and nothing else", by="the simulator", at_ns=0),
    ),
)


@dataclass(frozen=True)
class Played:
    """A block as it was recorded."""

    outcome: BlockOutcome
    records: dict[str, Records]


Play = Callable[[TenantPair, Plan, Block, int], Played]
"""(pair, plan, block, when it opens) -> the block."""


def play(pair: TenantPair, plan: Plan, block: Block, opened_ns: int) -> Played:
    """One block, as tenants run it: they begin in their stationary phase and go on until the window closes.

    What is in flight then is completed as if the others went on. A simulation that ends too soon is begun anew with
    more of the same draws.
    """
    tenants = [plan.tenant(name) for name in block.tenants]
    seeds = {t.name: block_seed(plan, block, t.name) for t in tenants}
    starts = {t.name: _first_ms(t, pair.kernels[t.name], seeds[t.name]) for t in tenants}
    lead_ms = max(0.0, -min(starts.values()))
    until_ms = lead_ms + _expected_ms(pair, tenants, block)
    while True:
        streams = [
            stream(t, pair.kernels[n], seeds[n], until_ms=until_ms, opened_ms=lead_ms, first_ms=starts[n])
            for n, t in zip(block.tenants, tenants, strict=True)
        ]
        done = dict(zip(block.tenants, simulate(streams, SHARING, horizon_ms=until_ms).tenants, strict=True))
        closed_ms = _closed_ms(tenants, block, done, lead_ms)
        if closed_ms is not None and all(len(d.submit_ms) and d.submit_ms[-1] > closed_ms for d in done.values()):
            break
        until_ms *= 1.5
    shift_ns = opened_ns - ms_to_ns(lead_ms)
    records = {name: as_records(d, shift_ns, until_ms=closed_ms) for name, d in done.items()}
    window_ns = (opened_ns, ms_to_ns(closed_ms) + shift_ns)
    return Played(outcome_of(block, records, window_ns), records)


def _first_ms(tenant: Tenant, kernel: SyntheticKernel, seed: int) -> float:
    """When it begins, from the window's opening; an open loop has its own due times."""
    return ns_to_ms(first_submission_ns(tenant.arrivals, ms_to_ns(kernel.service_ms), seed))


def _expected_ms(pair: TenantPair, tenants: Sequence[Tenant], block: Block) -> float:
    """Until when to simulate, so that it is nearly always enough."""
    service_ms = sum(pair.kernels[t.name].service_ms for t in tenants)
    longest = 0.0
    for tenant in tenants:
        quota = block.quotas[tenant.name]
        cycle = cycle_ms(tenant.arrivals, service_ms)
        longest = max(longest, 1000 * quota.seconds if quota.seconds else (quota.iterations or 0) * cycle)
    slowest = max(cycle_ms(t.arrivals, service_ms) for t in tenants)
    return 1.1 * longest + 4 * slowest


def stream(
    tenant: Tenant,
    kernel: SyntheticKernel,
    seed: int,
    *,
    until_ms: float,
    opened_ms: float = 0.0,
    first_ms: float = 0.0,
) -> Stream:
    """All that it could submit before ``until_ms``. A closed loop begins ``first_ms`` after (below 0: before) the
    window opens, an open one with its first due time after that."""
    planned = int(1.2 * until_ms / cycle_ms(tenant.arrivals, kernel.service_ms)) + 20
    iterations = kernel.draw(planned, generator(seed, "kernels"))
    pick = np.arange(planned)
    arrivals = tenant.arrivals
    if not isinstance(arrivals, Closed):
        due_ns = np.fromiter(islice(arrivals.due_times_ns(seed, 0), planned), np.float64, planned)
        return Stream(iterations, pick, due_ms=due_ns / NS_PER_MS + opened_ms)
    think_ns = np.fromiter(islice(arrivals.think_times_ns(seed), planned), np.float64, planned)
    return Stream(iterations, pick, think_ms=think_ns / NS_PER_MS, start_ms=opened_ms + first_ms)


def _closed_ms(
    tenants: Sequence[Tenant], block: Block, done: Mapping[str, Completed], opened_ms: float
) -> float | None:
    """When the window closes; None if that lies beyond what was simulated."""
    closed = opened_ms
    for tenant in tenants:
        quota, submits = block.quotas[tenant.name], done[tenant.name].submit_ms
        if quota.seconds is not None:
            closed = max(closed, opened_ms + 1000 * quota.seconds)
            continue
        first = max(1, int(np.searchsorted(submits, opened_ms)))
        last = first + (quota.iterations or 0) - 1
        if last >= len(submits):
            return None
        cycle_ns = float(submits[last] - submits[0]) / last * NS_PER_MS
        closed = max(closed, float(submits[last]) + ns_to_ms(tenant.arrivals.closing_ns(cycle_ns)))
    return closed


def as_records(done: Completed, shift_ns: int, *, until_ms: float) -> Records:
    """What was submitted until then, on the run's clock."""
    n = int(np.searchsorted(done.submit_ms, until_ms, side="right"))
    records = np.zeros(n, dtype=RECORD)
    records["i"] = np.arange(n)
    for name in ("due", "submit", "retire"):
        records[f"{name}_ns"] = np.round(getattr(done, f"{name}_ms")[:n] * NS_PER_MS).astype(np.int64) + shift_ns
    records["device_ms"] = done.device_ms[:n]
    return records


def outcome_of(block: Block, records: Mapping[str, Records], window_ns: tuple[int, int] | None) -> BlockOutcome:
    """How the block went: well."""
    some = [rows for rows in records.values() if len(rows)]
    return BlockOutcome(
        index=block.index,
        round=block.round,
        condition=block.condition,
        start_ns=min(int(rows["submit_ns"][0]) for rows in some),
        end_ns=max(int(rows["retire_ns"][-1]) for rows in some),
        valid=True,
        counts={name: len(rows) for name, rows in records.items()},
        window_ns=window_ns,
    )


@dataclass
class MemoryRun:
    """A run that was never written. A `kts.model.reading.RunData`."""

    plan: Plan
    blocks: list[BlockOutcome] = field(default_factory=list)
    damage: Sequence[str] = ()
    _records: dict[tuple[str, int], Records] = field(default_factory=dict)

    @property
    def info(self) -> RunInfo:
        """What run.json would hold."""
        return RunInfo(
            schema=SCHEMA_VERSION,
            id=f"selfcheck-{self.plan.seed}",
            kts=__version__,
            backend="simulated",
            mode=_SIMULATED,
            created_ns=0,
            plan=self.plan,
            blocks=tuple(self.blocks),
            outcome=Outcome(kind="complete"),
        )

    def add(self, played: Played) -> None:
        """One more block."""
        self.blocks.append(played.outcome)
        for name, rows in played.records.items():
            self._records[name, played.outcome.index] = rows

    def records(self, tenant: str, block: int) -> Records:
        """The records of a tenant in a block."""
        return self._records.get((tenant, block), np.zeros(0, dtype=RECORD))

    def portions(self, tenant: str, block: int) -> Iterator[Records]:
        """In one part."""
        yield self.records(tenant, block)

    @property
    def cluster(self) -> None:
        """See RunData."""

    def telemetry(self) -> Sequence[SampleSeries]:
        """None."""
        return ()


@dataclass(frozen=True)
class Finding:
    """What one run says of one tenant. ``df99`` and its interval are None where it refuses; ``n``: shared iterations.

    ``first``: blocks whose first counted iteration is among the slowest 1 % of the shared ones; ``chance``: how many
    that would be if it were like any other; ``cautioned``: the analysis itself says that it is not.
    """

    df99: float | None
    lo: float | None
    hi: float | None
    kind: str
    rounds: int
    n: int
    first: int
    chance: float
    cautioned: bool


def rehearse(pair: TenantPair, seed: int, how: Play | None = None) -> dict[str, Finding]:
    """One run from plan to verdict, by tenant. ``how``: another way to run a block than `play`."""
    run = measured(pair, seed, how or play)
    summary = analyse(run).summary
    cautioned = {caution.tenant for caution in summary.warnings if caution.code == "block-starts"}
    findings = {}
    for name, tenant in summary.tenants.items():
        df, n = tenant.response.df.p99, tenant.response.shared.n
        first, chance = _first_of_block(run, name)
        findings[name] = Finding(
            df99=df.estimate,
            lo=df.lo,
            hi=df.hi,
            kind=tenant.verdict.kind,
            rounds=summary.rounds,
            n=n,
            first=first,
            chance=chance,
            cautioned=name in cautioned,
        )
    return findings


def measured(pair: TenantPair, seed: int, how: Play = play) -> MemoryRun:
    """Rounds of blocks until the stop rule is content, or the plan allows no more."""
    plan = pair.plan(seed)
    run = MemoryRun(plan)
    rule = PrecisionRule(plan, plan.precision) if plan.precision is not None else None
    opened_ns = 0
    for number in range(plan.max_rounds):
        for block in blocks_of_round(plan, number):
            played = how(pair, plan, block, opened_ns)
            run.add(played)
            opened_ns = played.outcome.end_ns + BREAK_NS
            if rule is not None:
                for name, rows in played.records.items():
                    rule.take(name, rows)
                rule.end(played.outcome)
        if number + 1 >= plan.rounds and rule is not None and _worth_asking(run) and rule.reached():
            break
    return run


def _worth_asking(run: MemoryRun) -> bool:
    """False while some p99 is refused for want of iterations: then the rule would say no, but take its time."""
    totals = Counter[tuple[str, str]]()
    for outcome in run.blocks:
        totals.update({(name, outcome.condition): n for name, n in outcome.counts.items()})
    return min(totals.values()) >= min_samples(0.99)


def _first_of_block(run: MemoryRun, name: str) -> tuple[int, float]:
    house = run.plan.full_house
    rows = [counting(run, block, house.tenants)[name] for block in run.blocks if block.condition == house.name]
    blocks = [clock_ms(each, "response") for each in rows if len(each)]
    pooled = np.concatenate(blocks)
    slowest = max(1, round(starts.TAIL * len(pooled)))
    least = np.partition(pooled, -slowest)[-slowest]
    return sum(bool(values[0] >= least) for values in blocks), slowest * len(blocks) / len(pooled)
