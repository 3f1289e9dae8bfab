"""Fixed summaries and seeded series for the tests of `kts.report`: nothing here is measured.

`python -m tests.helpers_report` writes the golden files anew; review them like code.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from kts.app.catalog import schema
from kts.model.checks import Check
from kts.model.cluster import ClusterFacts
from kts.model.mode import SharingMode
from kts.model.plan import Condition, Kernel, Plan, Slo, Tenant
from kts.model.records import RECORD, Records
from kts.model.run import BlockOutcome, DeviceInfo, Outcome, RunInfo, WorkerInfo
from kts.model.summary import (
    Activity,
    ActivityMean,
    ActivityRole,
    BlockActivity,
    Caution,
    ClockSummary,
    Collided,
    Degradation,
    Estimate,
    Goodput,
    Latency,
    Mix,
    MixTenant,
    Overlap,
    Rate,
    ReferenceFigures,
    ReferenceTable,
    SloResult,
    Summary,
    TenantSummary,
    Throughput,
    Verdict,
    Waiting,
)
from kts.model.telemetry import SampleSeries, Scope, SourceState
from kts.report import markdown, sheet, terminal
from kts.report.comparison import comparison_elements
from kts.report.document import Document, Figure
from kts.report.sections import run_document
from kts.stats import compare
from kts.stats.series import ActivityTrace, Analysis, BlockSpan, OverTime, Side, Strip, TailCurve, TenantSeries

NONE = Estimate(estimate=None, lo=None, hi=None, refused="120 iterations are too few: p99 needs 368")
NO_STOPWATCH = Estimate(estimate=None, lo=None, hi=None, refused="the tenant has no device stopwatch")
HOSTILE = '<script>alert("x")</script>|`&'
GPU = "NVIDIA H200"
CPU = "CPU core 1 (AMD EPYC), not a GPU"


def estimate(value: float, spread: float = 0.04) -> Estimate:
    """An estimate with an interval of +-``spread`` around it."""
    return Estimate(estimate=value, lo=value * (1 - spread), hi=value * (1 + spread * 1.3))


def latency(p50: float, p95: float, p99: float, n: int = 800) -> Latency:
    """A latency whose p99.9 is refused, as it is below 3,688 iterations."""
    return Latency(
        n=n,
        mean=p50 * 1.02,
        p50=estimate(p50, 0.005),
        p95=estimate(p95, 0.02),
        p99=estimate(p99),
        p999=Estimate(estimate=None, lo=None, hi=None, refused=f"{n} iterations are too few: p99.9 needs 3688"),
        jitter=estimate(p99 / p50),
    )


def refused_latency(n: int, why: Estimate) -> Latency:
    """A latency without a single figure."""
    return Latency(n=n, mean=None, p50=why, p95=why, p99=why, p999=why, jitter=why)


def clock(solo: Latency, shared: Latency) -> ClockSummary:
    """Both conditions and their ratios; a ratio is refused where either side is."""

    def ratio(quantile: str) -> Estimate:
        above: Estimate = getattr(shared, quantile)
        below: Estimate = getattr(solo, quantile)
        if above.estimate is None or below.estimate is None:
            return above if above.estimate is None else below
        return estimate(above.estimate / below.estimate, 0.05)

    return ClockSummary(
        solo=solo,
        shared=shared,
        df=Degradation(p50=ratio("p50"), p95=ratio("p95"), p99=ratio("p99"), p999=ratio("p999")),
    )


def fft_summary() -> TenantSummary:
    """The small tenant: hurt in its tail, with a limit and a deadline."""
    response = clock(latency(3.68, 3.75, 3.84), latency(3.69, 6.52, 8.29))
    device = clock(latency(3.6, 3.65, 3.679), latency(3.593, 5.868, 6.101))
    return TenantSummary(
        workload="fft",
        size=16384,
        response=response,
        service=response,
        device=device,
        throughput=Throughput(solo=Rate(real=9.64, proxy=278.1), shared=Rate(real=9.57, proxy=257.9)),
        overlap=Overlap(kept=800, dropped=12, lead=20),
        collided=Collided(
            n=106,
            share=0.1325,
            p50=estimate(6.35),
            p95=estimate(8.31),
            p99=Estimate(estimate=None, lo=None, hi=None, refused="p99 needs 368 iterations, have 106"),
        ),
        verdict=Verdict(
            kind="worse",
            precise=False,
            sentence="fft: p99 2.16x worse, CI 2.05-2.30; 46 % of the added time is not on the device's own stopwatch.",
        ),
        waiting=Waiting(added_ms=4.45, wait_ms=2.03, device_ms=2.42, factor=0.53),
        goodput=Goodput(deadline_ms=5.0, solo=estimate(1.0, 0.0), shared=estimate(0.874, 0.02)),
        slo=SloResult(p99_ms=8.0, solo="kept", shared="undetermined"),
        reference=reference(3.598, 3.645, 3.679, 3.593, 5.868, 6.101),
    )


def gemm_summary() -> TenantSummary:
    """The heavy tenant: hardly hurt."""
    response = clock(latency(20.9, 21.1, 21.3), latency(20.9, 24.9, 25.7))
    device = clock(latency(20.677, 20.896, 20.985), latency(20.669, 24.505, 24.69))
    return TenantSummary(
        workload="gemm",
        size=8192,
        response=response,
        service=response,
        device=device,
        throughput=Throughput(solo=Rate(real=5.85, proxy=49.1), shared=Rate(real=5.81, proxy=48.3)),
        overlap=Overlap(kept=800, dropped=0),
        verdict=Verdict(kind="worse", precise=True, sentence="gemm: p99 1.21x worse, CI 1.15-1.29."),
        reference=reference(20.677, 20.896, 20.985, 20.669, 24.505, 24.69),
    )


def reference(*quantiles: float) -> ReferenceTable:
    """The published system's analysis from p50, p95 and p99 alone, then shared."""
    sides = [
        ReferenceFigures(n=800, p50=p50, p95=p95, p99=p99, jitter=p99 / p50, throughput=1000 / p50)
        for p50, p95, p99 in (quantiles[:3], quantiles[3:])
    ]
    df = {q: getattr(sides[1], q) / getattr(sides[0], q) for q in ("p50", "p95", "p99")}
    return ReferenceTable(solo=sides[0], shared=sides[1], df=df)


def bare_summary(sentence: str = "refused: 120 iterations are too few.") -> TenantSummary:
    """A command that prints no device time and ran alone, too shortly."""
    response = clock(
        msgspec.structs.replace(latency(12.0, 13.0, 14.0, n=120), p99=NONE, jitter=NONE), refused_latency(0, NONE)
    )
    return TenantSummary(
        workload="command",
        size=None,
        response=response,
        service=response,
        device=clock(refused_latency(120, NO_STOPWATCH), refused_latency(0, NO_STOPWATCH)),
        throughput=Throughput(solo=Rate(real=80.0, proxy=None), shared=Rate(real=None, proxy=None)),
        overlap=Overlap(kept=0, dropped=0),
        verdict=Verdict(kind="refused", precise=False, sentence=sentence),
    )


def summary(tenants: dict[str, TenantSummary] | None = None, *, gpu: bool = True) -> Summary:
    """A run of the published pair, or of ``tenants``."""
    return Summary(
        schema=1,
        run="20260301-120000-agents",
        experiment="agents",
        design="interleaved",
        device=GPU if gpu else CPU,
        is_gpu=gpu,
        backend="local",
        mode="time-slicing" if gpu else "cpu-scheduler",
        outcome="complete",
        confidence=0.95,
        headline_clock="response",
        rounds=10,
        tenants={"fft": fft_summary(), "gemm": gemm_summary()} if tenants is None else tenants,
        warnings=(
            Caution(code="faster-when-shared", text="The SM clock was lower solo than shared.", tenant=""),
            Caution(code="few-samples", text="800 iterations hold 8 beyond the p99.", tenant="fft"),
        ),
        notes=("Measured closed loop: response equals service.",),
        checks=checks() if tenants is None else msgspec.UNSET,
    )


def checks() -> tuple[Check, ...]:
    """Some of each outcome, of the run and of its tenants."""
    return (
        Check(code="same-gpu", outcome="passed", figure="GPU-1", text="All tenants were on one device."),
        Check(code="overlap", outcome="passed", figure="1.5 %", text="fft: 800 of 812 | counted.", tenant="fft"),
        Check(code="overlap", outcome="passed", figure="0 %", text="gemm: 800 of 800.", tenant="gemm"),
        Check(code="clocks", outcome="failed", figure="+13 %", text="fft: 1755 and 1980 MHz.", tenant="fft", off=0.128),
        Check(code="clocks", outcome="not-applicable", figure="", text="gemm: no clock was sampled.", tenant="gemm"),
        Check(code="samples", outcome="failed", figure="800", text="fft: too few.", tenant="fft", lowers=True),
        Check(code="observer", outcome="not-applicable", figure="", text="fft: nothing was read.", tenant="fft"),
    )


def mix_cell(df: Estimate, kind: str, *, device: float | None = 1.01) -> MixTenant:
    """A tenant in a mix."""
    of_device = estimate(device) if device is not None else NO_STOPWATCH
    return MixTenant(
        n=800 if df.estimate else 120,
        df_p50=estimate(df.estimate * 0.9) if df.estimate else df,
        df_p99=df,
        device_df_p99=of_device,
        kind=kind,  # type: ignore[arg-type]
        precise=kind in {"worse", "better", "no-change"},
    )


def matrix_summary() -> Summary:
    """Three tenants in pairs on a CPU core: worse, better, no change, undetermined and refused cells."""
    none = mix_cell(NONE, "refused", device=None)
    unsure = mix_cell(Estimate(estimate=1.03, lo=0.9, hi=1.2), "undetermined")
    pairs = (
        ("fft", mix_cell(estimate(1.66), "worse"), "gemm", mix_cell(estimate(1.04, 0.05), "no-change")),
        ("fft", unsure, "mine", none),
        ("gemm", mix_cell(estimate(0.7), "better"), "mine", none),
    )
    mixes = [Mix(condition=f"shared-{a}+{b}", tenants={a: of_a, b: of_b}) for a, of_a, b, of_b in pairs]
    house = {"fft": mix_cell(estimate(2.16), "worse"), "gemm": mix_cell(estimate(4.8), "worse"), "mine": none}
    tenants = {"fft": fft_summary(), "gemm": gemm_summary(), "mine": bare_summary()}
    return msgspec.structs.replace(
        summary(tenants, gpu=False), mixes=(*mixes, Mix(condition="shared-fft+gemm+mine", tenants=house))
    )


def activity(  # noqa: PLR0917 - one row of a table
    role: ActivityRole, source: str, metric: str, scope: Scope, solo: float | None, shared: float, unit: str = "ratio"
) -> Activity:
    """One figure, in two blocks if it has a role; without ``solo`` it was not sampled there."""

    def mean(value: float | None) -> ActivityMean:
        block_mean = None if value is None else value * 0.9
        return ActivityMean(mean=value, block_mean=block_mean, samples=40, covered=0.0 if value is None else 0.97)

    blocks = tuple(
        BlockActivity(
            block=k, condition=where, mean=value, block_mean=value, samples=20, covered=0.0 if value is None else 0.97
        )
        for k, (where, value) in enumerate((("solo-fft", solo), ("shared-fft+gemm", shared)))
    )
    return Activity(
        metric=metric,
        source=source,
        scope=scope,
        unit=unit,
        role=role,
        solo=mean(solo),
        shared=mean(shared),
        blocks=blocks if role else (),
    )


def activity_summary() -> Summary:
    """The published pair with telemetry: GPM's SM activity, NVML's memory utilisation, one source missing."""
    of_device = [
        activity("sm", "gpm", "sm_active_ratio", "device", 0.312, 0.874),
        activity("dram", "nvml", "memory_busy_ratio", "device", None, 0.41),
        activity("", "nvml", "sm_clock_mhz", "device", 1755.0, 1980.0, "MHz"),
    ]
    of_tenant = [
        activity("process-sm", "nvml-process", "process_sm_ratio", "tenant", 0.3, 0.25),
        activity("cpu-wait", "schedstat", "cpu_wait_ratio", "tenant", 0.001, 0.012),
    ]
    of = summary()
    figures = (*of_device[:2], *of_tenant, of_device[2])
    tenants = {name: msgspec.structs.replace(tenant, activity=figures) for name, tenant in of.tenants.items()}
    states = (
        SourceState(source="gpm", metrics=("sm_active_ratio",), note="not given by this GPU: dram_active_ratio"),
        SourceState(source="nvml", metrics=("memory_busy_ratio", "sm_clock_mhz"), polls=900, poll_mean_us=210.0),
        SourceState(source="dcgm", missing="no metrics from http://n1:9400/metrics: [Errno 111] Connection refused"),
    )
    return msgspec.structs.replace(of, tenants=tenants, telemetry=states)


def traces() -> tuple[ActivityTrace, ...]:
    """SM activity of the device and a tenant's wait, over `spans`, with a gap."""
    rng = np.random.default_rng(3)
    t_s = np.array([t for t in np.arange(0.1, 40, 0.2) if not 21 < t < 24])
    shared = (t_s // 2).astype(int) % 2 == 1
    return (
        ActivityTrace(
            role="sm",
            source="gpm",
            metric="sm_active_ratio",
            scope="device",
            subject="GPU-1",
            t_s=t_s,
            value=np.where(shared, 0.87, 0.31) + rng.normal(0, 0.02, len(t_s)),
        ),
        ActivityTrace(
            role="cpu-wait",
            source="schedstat",
            metric="cpu_wait_ratio",
            scope="tenant",
            subject="fft",
            t_s=t_s,
            value=np.where(shared, 0.5, 0.01) + rng.uniform(0, 0.02, len(t_s)),
        ),
    )


def tail(values_ms: NDArray[np.float64]) -> TailCurve:
    """The tail curve of a sample."""
    ms = np.sort(values_ms)[np.unique(np.geomspace(1, len(values_ms), 120).astype(int) * -1)]
    return TailCurve(ms=ms, fraction_slower=np.array([np.mean(values_ms >= x) for x in ms]))


def series(seed: int, solo_ms: float, *, device: bool = True, shared: bool = True, spans: int = 10) -> TenantSeries:
    """Series of a tenant whose shared iterations sometimes wait for a slice."""
    rng = np.random.default_rng(seed)
    n = 800
    alone = solo_ms * rng.lognormal(0.0, 0.01, n)
    waits = np.where(rng.random(n) < 0.15, rng.uniform(0.3, 4.6, n), 0.02)
    sides: list[tuple[Side, NDArray[np.float64], NDArray[np.float64]]] = [("solo", alone, alone * 0.98)]
    if shared:
        sides.append(("shared", alone + waits, alone * 0.98 + waits * 0.5))
    tails: dict[Side, dict[str, TailCurve]] = {
        side: {"response": tail(host), "service": tail(host), **({"device": tail(on_device)} if device else {})}
        for side, host, on_device in sides
    }
    block = np.repeat(np.arange(2 * spans if shared else spans), n // (2 * spans))
    is_shared = (block % 2 == 1) & shared
    m = len(block)
    service = alone[:m] + np.where(is_shared, waits[:m], 0.0)
    took_s = (solo_ms + rng.uniform(0, 4, 24)) / 1e3
    submit = np.cumsum(rng.uniform(0.005, 0.02, 24) + took_s) - took_s
    strip = Strip(
        submit_s=submit,
        retire_s=submit + took_s,
        device_ms=np.full(24, solo_ms if device else np.nan),
    )
    return TenantSeries(
        tails=tails,  # type: ignore[arg-type]
        over_time=OverTime(
            t_s=block * 2.0 + rng.uniform(0.05, 1.9, m),
            service_ms=service,
            device_ms=service * 0.97 if device else np.full(m, np.nan),
            block=block,
            place=is_shared.astype(np.int8),
        ),
        strip=strip if shared else None,
    )


def spans(count: int = 20) -> tuple[BlockSpan, ...]:
    """Alternating solo and shared blocks of two seconds."""
    return tuple(
        BlockSpan(
            block=k,
            condition="shared-fft+gemm" if k % 2 else "solo-fft",
            round=k // 2,
            start_s=2.0 * k,
            end_s=2.0 * k + 1.95,
            valid=k != 6,
        )
        for k in range(count)
    )


def analysis(of: Summary | None = None, *, partial: bool = False) -> Analysis:
    """Summary and series; with ``partial`` the tenants have no device clock and no shared samples."""
    of = of or summary()
    solo_ms = {"fft": 3.68, "gemm": 20.9}
    return Analysis(
        summary=of,
        series={
            name: series(k, solo_ms.get(name, 8.0 + k), device=not partial, shared=not partial)
            for k, name in enumerate(of.tenants)
        },
        spans=spans(),
        activity=traces() if of.telemetry else (),
    )


class FakeRun:
    """A `kts.model.reading.RunData` without a directory behind it."""

    def __init__(self, of: Summary | None = None, damage: tuple[str, ...] = ()) -> None:
        of = of or summary()
        self.damage = damage
        self.blocks: tuple[BlockOutcome, ...] = ()
        tenants = tuple(
            Tenant(name=n, work=Kernel(workload="fft", size=16), iterations=800, slo=Slo()) for n in of.tenants
        )
        device = DeviceInfo(
            kind="cuda" if of.is_gpu else "cpu",
            uuid="GPU-1",
            name=of.device,
            label=of.device,
            library="torch",
            library_version="2.5",
            driver="580.1",
            stopwatch="CUDA events",
        )
        self.info = RunInfo(
            schema=1,
            id=of.run,
            kts="0.1.0",
            backend="local",
            mode=SharingMode(recorded=of.mode),
            created_ns=1_772_366_400_000_000_000,
            plan=Plan(
                name=of.experiment,
                design="interleaved",
                tenants=tenants,
                conditions=(
                    *(Condition(name=f"solo-{n}", tenants=(n,)) for n in of.tenants),
                    Condition(name="shared", tenants=tuple(of.tenants)),
                ),
                rounds=10,
                max_rounds=100,
            ),
            workers=tuple(
                WorkerInfo(tenant=n, pid=1, hostname="host", device=device, cores=(k,))
                for k, n in enumerate(of.tenants)
            ),
            outcome=Outcome(kind="complete"),
            environment={"python": "3.11.7", "kernel": "6.1"},
            experiment="name: agents\n",
        )

    def records(self, tenant: str, block: int) -> Records:  # noqa: ARG002
        """No records: reports need the analysis alone."""
        return np.zeros(0, dtype=RECORD)

    def portions(self, tenant: str, block: int) -> Iterator[Records]:
        yield self.records(tenant, block)

    cluster: ClusterFacts | None = None

    def telemetry(self) -> tuple[SampleSeries, ...]:
        """No samples either: the analysis has their figures."""
        return ()


def terminal_text(document: Document, width: int) -> str:
    """What a terminal of that width would show, without colours and trailing blanks."""
    out = io.StringIO()
    terminal.render(document, Console(file=out, width=width, color_system=None, force_terminal=False))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def results_md(of: Summary, damage: tuple[str, ...] = (), figures: tuple[Figure, ...] = ()) -> str:
    """results.md of a run."""
    return markdown.render(run_document(of, FakeRun(of, damage), figures))


def summary_csv(of: Summary) -> str:
    """summary.csv of a run."""
    return sheet.render(run_document(of))


def golden_texts() -> dict[str, str]:
    """File name in tests/golden/report to what it must hold."""
    from tests.helpers_causes import crowded, waterfalls, with_causes  # made of what is above

    whole = summary()
    poor = summary(
        {"fft": fft_summary(), "mine": bare_summary("mine: no verdict: 120 iterations are too few.")}, gpu=False
    )
    matrix = matrix_summary()
    sampled = activity_summary()
    slower = msgspec.structs.replace(whole, run="b", tenants={"fft": fft_summary(), "gemm": fft_summary()})
    figures = (
        Figure("degradation", "", "Sharing makes the p99 worse.", ""),
        Figure("tail", "", "How often iterations are slow.", ""),
    )
    return {
        **{f"summary-{w}.txt": terminal_text(run_document(whole), w) for w in (80, 120)},
        **{f"refused-{w}.txt": terminal_text(run_document(poor), w) for w in (80, 120)},
        **{f"matrix-{w}.txt": terminal_text(run_document(matrix), w) for w in (50, 80, 120)},
        "matrix.csv": summary_csv(matrix),
        **{f"causes-{w}.txt": waterfalls(with_causes(), w) for w in (50, 80, 160)},
        "causes-crowded-120.txt": waterfalls(crowded(), 120),
        "causes.md": results_md(with_causes()),
        "causes.csv": summary_csv(with_causes()),
        **{f"activity-{w}.txt": terminal_text(run_document(sampled), w) for w in (50, 80)},
        "activity.csv": summary_csv(sampled),
        "activity.md": results_md(sampled),
        "matrix.md": results_md(matrix),
        "comparison-80.txt": terminal_text(Document(tuple(comparison_elements(compare([whole], [slower])))), 80),
        "summary.csv": summary_csv(whole),
        "results.md": results_md(whole, ("records.journal: torn after byte 8812",), figures),
        "refused.md": results_md(poor),
        "summary.schema.json": json.dumps(schema("summary"), indent=2) + "\n",
    }


if __name__ == "__main__":
    directory = Path(__file__).parent / "golden" / "report"
    for file_name, text in golden_texts().items():
        (directory / file_name).write_text(text, encoding="utf-8")
