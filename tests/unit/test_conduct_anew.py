"""A run in which each block has workers of its own: who may come when, and what holds from one to the next."""

from __future__ import annotations

import msgspec
import pytest
from tests.helpers_conduct import DEVICE, Puppets, make_plan, sent

from kts.conduct import events as ev
from kts.conduct.ports import WorkerExit
from kts.conduct.roster import Limits
from kts.model.plan import Plan
from kts.model.run import DeviceInfo
from kts.wire import messages as msg

GPU = DeviceInfo(kind="cuda", uuid="GPU-1", name="A", label="NVIDIA A", library="torch")


def classic(**changes: object) -> Plan:
    """Alone, alone, together."""
    return make_plan("fft", "gemm", rounds=1, design="classic", **changes)


class Anew(Puppets):
    """Puppets of which each block has its own."""

    def __init__(self, plan: Plan, limits: Limits | None = None) -> None:
        super().__init__(plan, limits=limits, anew=True)

    def come(self, *names: str, block: int, device: DeviceInfo = DEVICE, gpus: tuple[str, ...] = ()) -> list[ev.Action]:
        """The block's workers join."""
        actions: list[ev.Action] = []
        for name in names:
            hello = self.hello(name, block=block, hostname=f"{name}-{block}")
            actions += self.tell(ev.Greeted(peer=10 * block + self.names.index(name), hello=hello))
            actions += self.say(name, msg.Opened(device=device, cores=(1,), gpus=gpus))
        return actions

    def calibrate(self, *names: str, size: int = 16, solo_ms: float = 1.0) -> list[ev.Action]:
        """They are ready, one after the other."""
        return [action for name in names for action in self.say(name, msg.Ready(size=size, solo_ms=solo_ms))]

    def block(self, *names: str, index: int) -> None:
        """Plays one whole block."""
        self.come(*names, block=index)
        self.calibrate(*names)
        self.play()

    @property
    def awaits(self) -> int | None:
        """The block whose workers are to be started."""
        return self.machine.progress(self.now_ns).awaits


def test_each_block_gathers_calibrates_runs_and_lets_its_workers_go() -> None:
    """Else tenants of two blocks would be on the device at once, or a Job would never end."""
    puppets = Anew(classic())
    for index, names in enumerate((("fft",), ("gemm",), ("fft", "gemm"))):
        assert puppets.awaits == index
        assert sent(puppets.come(*names, block=index), msg.Calibrate) == [names[0]]
        assert sent(puppets.calibrate(*names), msg.Start) == list(names)
        assert puppets.awaits is None
        before = len(puppets.actions)
        puppets.play()
        after = puppets.actions[before:]
        assert sent(after, msg.Finish) == list(names)
        assert [action.tenant for action in after if isinstance(action, ev.Release)] == list(names)
    assert puppets.outcome.kind == "complete"
    assert [(block.condition, block.valid) for block in puppets.ended] == [
        ("solo-fft", True), ("solo-gemm", True), ("shared-fft+gemm", True),
    ]  # fmt: skip


def test_the_size_that_the_first_worker_found_holds_for_the_next() -> None:
    """Else solo and shared would not be the same work."""
    puppets = Anew(classic(size=None))
    puppets.come("fft", block=0)
    puppets.calibrate("fft", size=48, solo_ms=2.0)
    puppets.play()
    puppets.come("gemm", block=1)
    puppets.calibrate("gemm", size=32)
    puppets.play()
    actions = puppets.come("fft", "gemm", block=2)
    welcomes = [a.message for a in actions if isinstance(a, ev.Send) and isinstance(a.message, msg.Welcome)]
    assert [welcome.tenant.work.size for welcome in welcomes] == [48, 32]
    puppets.calibrate("fft", "gemm", size=48, solo_ms=9.0)
    told = [action.info for action in puppets.actions if isinstance(action, ev.Introduce)]
    fft = [info for info in told if info.tenant == "fft"][-1]
    assert (fft.hostname, fft.solo_ms) == ("fft-0", 2.0)  # of its first block, as calibrated there


@pytest.mark.parametrize(
    ("device", "gpus"),
    [(msgspec.structs.replace(GPU, uuid="GPU-2"), ("GPU-1",)), (GPU, ("GPU-2",))],
)
@pytest.mark.parametrize("block", [1, 2])
def test_another_gpu_in_another_block_is_refused_unless_allowed(
    block: int, device: DeviceInfo, gpus: tuple[str, ...]
) -> None:
    """Else two GPUs would be compared, and the difference be called sharing."""
    for allowed in (False, True):
        puppets = Anew(classic(allow_different_gpus=allowed))
        for index, name in enumerate(("fft", "gemm")[:block]):
            puppets.come(name, block=index, device=GPU, gpus=("GPU-1",))
            puppets.calibrate(name)
            puppets.play()
        puppets.come("gemm" if block == 1 else "fft", block=block, device=device, gpus=gpus)
        if block == 2:
            puppets.come("gemm", block=block, device=GPU, gpus=("GPU-1",))
        logs = [action.fields for action in puppets.actions if isinstance(action, ev.Log) and action.kind == "note"]
        if allowed:
            assert "GPU-2" in str(logs)
            assert "NOT ONE DEVICE" in str(logs)
            assert puppets.machine.outcome is None
        else:
            assert (puppets.outcome.kind, puppets.outcome.exit_code) == ("incomplete", 5)
            assert "fft in solo-fft" in puppets.outcome.reason
            assert "GPU-2" in puppets.outcome.reason
            assert len(puppets.ended) == block


@pytest.mark.parametrize("name", ["fft", "gemm"])
@pytest.mark.parametrize("block", [None, 0, 2, 7])
def test_a_worker_of_another_block_is_refused(name: str, block: int | None) -> None:
    """Else a Job that runs twice, or too early, would be measured in the wrong place."""
    puppets = Anew(classic())
    puppets.block("fft", index=0)
    actions = puppets.tell(ev.Greeted(peer=90, hello=puppets.hello(name, block=block)))
    assert any(isinstance(action, ev.Reject) and action.peer == 90 for action in actions)
    assert puppets.awaits == 1
    actions = puppets.tell(ev.Greeted(peer=91, hello=puppets.hello("fft", block=1)))  # no tenant of that block
    assert any(isinstance(action, ev.Reject) for action in actions)


def ended(name: str, block: int | None, hostname: str = "") -> WorkerExit:
    """The end of a pod, as told."""
    return WorkerExit(tenant=name, code=137, reason="OOMKilled", block=block, hostname=hostname)


def test_the_end_of_a_pod_counts_for_its_own_block_alone() -> None:
    """Else a Job that ended as it should would end the run, or one that died would not."""
    puppets = Anew(classic())
    puppets.block("fft", index=0)
    puppets.block("gemm", index=1)
    puppets.come("fft", "gemm", block=2)
    puppets.calibrate("fft", "gemm")
    puppets.tell(ended("fft", 0))
    puppets.tell(ended("fft", 2, hostname="fft-2-again"))  # another pod of its Job, which was refused
    puppets.pass_time(3)
    assert puppets.machine.outcome is None
    puppets.tell(ended("fft", 2, hostname="fft-2"))
    puppets.tell(ev.Lost(tenant="fft"))
    assert (puppets.outcome.kind, puppets.outcome.exit_code) == ("incomplete", 5)
    assert "OOMKilled" in puppets.outcome.reason
    assert [block.valid for block in puppets.ended] == [True, True, False]


def test_a_pod_that_dies_before_it_joins_ends_the_run() -> None:
    """Else the run would wait for ever for a worker that cannot come."""
    puppets = Anew(classic())
    puppets.block("fft", index=0)
    puppets.tell(ended("gemm", 1))
    puppets.pass_time(3, alive=())
    assert "OOMKilled" in puppets.outcome.reason


def test_nobody_is_late_before_the_first_of_a_block_is_there() -> None:
    """Else a run would fail because the kts that makes its Jobs was away; or a missing neighbour be waited for."""
    puppets = Anew(classic(), Limits(join_s=60))
    puppets.block("fft", index=0)
    puppets.pass_time(600, alive=())
    puppets.block("gemm", index=1)
    puppets.pass_time(600, alive=())
    assert puppets.machine.outcome is None
    puppets.come("fft", block=2)
    puppets.pass_time(61, alive=["fft"])
    assert puppets.outcome.kind == "incomplete"
    assert "not there after 60 s: gemm" in puppets.outcome.reason


def test_a_tenant_that_hangs_is_named() -> None:
    """Else a GPU that hangs would hold the run until its Job's deadline, hours later."""
    puppets = Anew(classic(), Limits(hang_s=5))
    puppets.block("fft", index=0)
    puppets.come("gemm", block=1)
    puppets.calibrate("gemm")
    puppets.pass_time(6, alive=())
    assert puppets.outcome.exit_code == 5
    assert "tenant gemm gave no sign of life" in puppets.outcome.reason
