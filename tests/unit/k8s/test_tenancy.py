"""Whether the workers of a classic run measured one thing on one device."""

from __future__ import annotations

import msgspec
import pytest
from tests.helpers_log import META

from kts.k8s.follow.tenancy import Tenancy
from kts.model.plan import Plan
from kts.plan import build
from kts.spec import load_text
from kts.wire.logframe import Meta


def plan(allow: bool = False) -> Plan:
    """Two tenants, one of a size that is not known yet."""
    text = "design: classic\ntenants:\n  fft: {workload: fft, target_ms: 2}\n  gemm: {workload: gemm, size: 32}\n"
    text += "allow_different_gpus: true\n" if allow else ""
    return build(load_text(text, source="test").experiment)


def meta(size: int = 64, uuid: str = "GPU-1", gpus: tuple[str, ...] = ("GPU-1",)) -> Meta:
    """A header."""
    device = msgspec.structs.replace(META.device, uuid=uuid)
    return msgspec.structs.replace(META, size=size, device=device, gpus=gpus, solo_ms=2.0)


def test_the_size_that_the_first_block_found_holds_for_the_rest() -> None:
    """Else solo and shared would not be the same work."""
    tenancy = Tenancy(plan())
    assert tenancy.meet("fft", "solo-fft", meta(64)) == ""
    assert tenancy.plan.tenant("fft").work.size == 64
    assert tenancy.solo_ms == {"fft": 2.0}
    assert tenancy.meet("gemm", "solo-gemm", meta(32)) == ""
    assert "ran size 65 in shared" in tenancy.meet("fft", "shared", meta(65))


@pytest.mark.parametrize("other", [meta(32, uuid="GPU-2"), meta(32, gpus=("GPU-2",))])
def test_another_gpu_in_another_block_is_refused_unless_allowed(other: Meta) -> None:
    """Else two GPUs would be compared, and the difference be called sharing."""
    tenancy = Tenancy(plan())
    assert tenancy.meet("fft", "solo-fft", meta()) == ""
    refused = tenancy.meet("gemm", "solo-gemm", other)
    assert "not on one device" in refused
    assert "GPU-2" in refused
    allowed = Tenancy(plan(allow=True))
    assert not allowed.meet("fft", "solo-fft", meta()) + allowed.meet("gemm", "solo-gemm", other)
    assert "NOT ONE DEVICE" in allowed.notes[0]


def test_the_kubelet_has_a_say_too() -> None:
    """Else a worker that computes elsewhere would hide that its pod has another GPU."""
    tenancy = Tenancy(plan())
    assert tenancy.kubelet("a", ("GPU-1",)) == ""
    assert tenancy.kubelet("b", ()) == ""
    assert tenancy.kubelet("a", ("GPU-1",)) == ""
    assert "the kubelet gave c GPU-2" in tenancy.kubelet("c", ("GPU-2",))


def test_a_worker_is_described_by_all_its_blocks() -> None:
    """Else the proof would hold for the first block only."""
    tenancy = Tenancy(plan(allow=True))
    tenancy.meet("fft", "solo-fft", meta())
    tenancy.meet("fft", "shared", meta(gpus=("GPU-2",)))
    worker = tenancy.worker("fft")
    assert worker
    assert worker.gpus == ("GPU-1", "GPU-2")
    assert tenancy.worker("gemm") is None
