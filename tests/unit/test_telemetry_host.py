"""What workers tell of their hosts, what the machine's cores did, and both joined."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.helpers_telemetry import MS, Clock, FakeMachine, S

from kts.model.telemetry import Sample
from kts.telemetry.cores import CoresSource
from kts.telemetry.host import HostSource
from kts.telemetry.source import SourceMissingError
from kts.wire.messages import Heartbeat, HostCounters

STEP_NS = 50 * MS


class Run:
    """A fake machine, its cores' source, and the tenants' words."""

    def __init__(self, folder: Path, *, siblings: bool = True) -> None:
        self.clock = Clock()
        self.machine = FakeMachine(folder, siblings=siblings)
        self.cores = CoresSource(proc=self.machine.proc, system=self.machine.system, clock=self.clock)
        self.host = HostSource(self.cores.busy_cores)
        self.own_ns = 0

    def told(self, tenant: str = "fft", **counters: int) -> None:
        """A heartbeat now."""
        host = HostCounters(monotonic_ns=self.clock.ns, counters={"running_threads": self.own_ns, **counters})
        self.host.heartbeat(tenant, Heartbeat(monotonic_ns=self.clock.ns, iterations=1, host=host))

    def go_on(self, seconds: float, *, own: float, idle: float) -> dict[str, Sample]:
        """So long the tenant runs on the share ``own`` of core 0, which is idle for the share ``idle``."""
        samples: list[Sample] = []
        for step in range(round(seconds * S / STEP_NS)):
            self.clock.after(STEP_NS)
            self.own_ns += round(own * STEP_NS)
            self.machine.idle(round(idle * STEP_NS), [0])
            samples += self.cores.sample()
            if step % 5 == 4:
                self.told()
                samples += self.host.sample()
        self.clock.after(1)
        samples += self.cores.sample() + self.host.sample()
        return {sample.metric: sample for sample in samples}


def test_others_are_what_the_core_did_less_what_the_tenant_did(tmp_path: Path) -> None:
    """Else a thief on the core would have no figure, or the tenant itself be taken for one."""
    run = Run(tmp_path)
    run.cores.worker(run.machine.worker("fft", (0,)))
    run.cores.open("")
    run.told()
    found = run.go_on(1, own=0.4, idle=0.2)
    assert found["busy_cores"].value == pytest.approx(0.8)
    assert found["running_threads"].value == pytest.approx(0.4)
    assert found["others_cores"].value == pytest.approx(0.4, abs=0.02)
    assert found["others_cores"].subject == "fft"
    assert found["others_cores"].span_ns == 250 * MS


def test_ran_and_waited_are_means_of_the_time_between_two_heartbeats(tmp_path: Path) -> None:
    """Else the wait for the core, which is what sharing a CPU costs, would be wrong."""
    run = Run(tmp_path)
    run.told(waiting_threads=50 * MS)
    run.clock.after(250 * MS)
    run.own_ns = 100 * MS
    run.told(waiting_threads=175 * MS)
    found = {sample.metric: sample for sample in run.host.sample()}
    assert found["running_threads"].value == pytest.approx(0.4)
    assert found["waiting_threads"].value == pytest.approx(0.5)
    assert (found["waiting_threads"].t_ns, found["waiting_threads"].span_ns) == (run.clock.ns, 250 * MS)
    assert {sample.scope for sample in found.values()} == {"tenant"}


def test_interrupts_and_the_hypervisor_are_nobodys_work(tmp_path: Path) -> None:
    """Else a core that the machine below took away would be charged to other programs."""
    run = Run(tmp_path)
    run.cores.worker(run.machine.worker("fft", (0,)))
    run.cores.open("")
    run.clock.after(S)
    run.machine.idle(500 * MS, [0])
    run.machine.idle(100 * MS, [0], column=4)  # idle, while it waits for a disk
    run.machine.idle(100 * MS, [0], column=6)
    run.machine.idle(200 * MS, [0], column=7)
    found = {sample.metric: sample.value for sample in run.cores.sample()}
    assert found["busy_cores"] == pytest.approx(0.1)
    assert found["irq_cores"] == pytest.approx(0.1)
    assert found["steal_cores"] == pytest.approx(0.2)


def test_the_thread_beside_a_core_is_told_only_where_it_is_somebody_elses(tmp_path: Path) -> None:
    """Else a tenant's own threads, or none, would be a busy neighbour within the core."""
    run = Run(tmp_path / "two")
    for tenant, cores in (("one", (0,)), ("both", (1, 3))):
        run.cores.worker(run.machine.worker(tenant, cores))
    run.cores.open("")
    run.clock.after(S)
    run.machine.idle(750 * MS, [2])
    found = {(sample.metric, sample.subject): sample.value for sample in run.cores.sample()}
    assert found["sibling_busy_cores", "one"] == pytest.approx(0.25)
    assert ("sibling_busy_cores", "both") not in found
    assert "both: no hardware threads beside its cores that are not its own" in run.cores.state().note
    hidden = Run(tmp_path / "hidden", siblings=False)
    hidden.cores.worker(hidden.machine.worker("fft", (0,)))
    hidden.cores.open("")
    hidden.clock.after(S)
    assert "sibling_busy_cores" not in {sample.metric for sample in hidden.cores.sample()}
    assert "a virtual machine may hide them" in hidden.cores.state().note


def test_pressure_of_the_machine_and_the_clock_of_its_cores(tmp_path: Path) -> None:
    """Else a machine that runs out of memory, or a core that slowed down, would be no cause."""
    run = Run(tmp_path)
    run.cores.worker(run.machine.worker("fft", (0, 1)))
    run.cores.open("")
    run.clock.after(S)
    run.machine.pressure_us = 300_000
    (run.machine.system / "cpu1/cpufreq/scaling_cur_freq").write_text("1200000\n")
    run.machine.write()
    found = {sample.metric: sample for sample in run.cores.sample()}
    assert found["machine_memory_pressure_ratio"].value == pytest.approx(0.3)
    assert (found["core_clock_mhz"].value, found["core_clock_mhz"].span_ns) == (1800.0, 0)


def test_of_a_tenant_on_another_machine_nothing_is_told(tmp_path: Path) -> None:
    """Else the conductor's cores would be shown as those of a pod on another node."""
    run = Run(tmp_path)
    run.cores.worker(msgspec.structs.replace(run.machine.worker("far", (0,)), boot_id="another"))
    run.cores.open("")
    run.told("far")
    assert not {sample.subject for sample in run.go_on(1, own=0.5, idle=0.1).values()} - {"fft"}
    assert "not on the machine of the conductor" in run.cores.state().missing
    assert run.cores.busy_cores("far", run.clock.ns - S, run.clock.ns) is None


def test_what_is_not_known_yet_is_waited_for_and_what_never_was_is_no_figure(tmp_path: Path) -> None:
    """Else the last look at the cores would be stretched over time in which nobody looked."""
    run = Run(tmp_path)
    run.cores.worker(run.machine.worker("fft", (0,)))
    run.told()
    run.cores.open("")
    run.clock.after(250 * MS)
    run.told()
    assert {sample.metric for sample in run.host.sample()} == {"running_threads"}
    run.clock.after(MS)
    run.cores.sample()
    assert [sample.metric for sample in run.host.sample()] == ["others_cores"]
    assert run.cores.busy_cores("fft", run.clock.ns - S, run.clock.ns) is None


def test_a_kernel_that_tells_of_no_core_is_no_source(tmp_path: Path) -> None:
    """Else all cores would seem idle."""
    run = Run(tmp_path)
    (run.machine.proc / "stat").write_text("intr 1\n")
    with pytest.raises(SourceMissingError):
        run.cores.open("")


def test_no_span_reaches_over_the_end_of_a_block_or_a_worker_that_began_anew(tmp_path: Path) -> None:
    """Else idle time, or a counter that began at 0 again, would be a share of nothing."""
    run = Run(tmp_path)
    run.own_ns = S
    run.told(throttled_cores=5)
    run.host.block_over()
    run.clock.after(S)
    run.told(throttled_cores=7)
    assert run.host.sample() == []
    run.own_ns = 0
    run.clock.after(S)
    run.told(throttled_cores=8)
    assert {sample.metric for sample in run.host.sample()} == {"throttled_cores"}


def test_reasons_are_told_once_for_all_or_with_the_tenant() -> None:
    """Else a reader would look for what no kernel here tells, or miss that it is one tenant's only."""
    source = HostSource()
    assert source.state().missing == "no tenant told it"
    for tenant, untold in (("fft", {"a": "no x"}), ("gemm", {"a": "no x", "b": "no y"})):
        for t_ns in (1, 2):
            host = HostCounters(monotonic_ns=t_ns, counters={"running_threads": 0}, untold=untold)
            source.heartbeat(tenant, Heartbeat(monotonic_ns=t_ns, iterations=1, host=host))
    source.sample()
    assert source.state().note == "no x; gemm: no y"
    assert source.state().metrics == ("running_threads",)
