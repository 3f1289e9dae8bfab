"""MIG as a mode: each tenant on a part of its own, also alone; refused where there are too few, and beside others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from tests.helpers_stats import make_plan, make_run
from tests.unit.test_sharing_state import OneGpu

from kts.conduct.roster import Limits, Roster
from kts.errors import SetupError, UsageError
from kts.model.mode import MIG, SharingMode
from kts.model.run import DeviceInfo
from kts.plan import in_modes
from kts.sharing import check, mig, parse
from kts.stats import analyse
from kts.wire import messages as msg
from kts.worker.sharing import seen_from

PLAN = in_modes(make_plan(rounds=4), parse("exclusive,mig"))


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> OneGpu:
    gpu = OneGpu()
    gpu.instances = ["MIG-a", "MIG-b", "MIG-c"]
    monkeypatch.setattr(mig, "load_pynvml", lambda: gpu)
    return gpu


def device(uuid: str) -> DeviceInfo:
    name = "NVIDIA H200 MIG 1g.18gb"
    return DeviceInfo(kind="cuda", uuid=uuid, name=name, label=name, library="torch")


@pytest.mark.usefixtures("nvml")
def test_each_tenant_has_a_part_of_its_own_and_keeps_it_alone() -> None:
    """Else a tenant would be held against itself on other hardware."""
    assert [tenant.name for tenant in PLAN.tenants] == ["fft", "gemm"], "who runs alone is who shares"
    with mig.prepared([one for one in PLAN.modes if one.mode.kind == MIG]) as held:
        assert held.env == {"fft": {mig.VISIBLE: "MIG-a"}, "gemm": {mig.VISIBLE: "MIG-b"}}
        (told,) = held.trouble()
    assert told.startswith("MIG: parts of GPU-1, also alone: fft on Test GPU (MIG-a)")
    with mig.prepared(in_modes(make_plan(), parse("a=mig,b=mig")).modes) as held:
        assert held.env["gemm@b"] == held.env["gemm"] == {mig.VISIBLE: "MIG-b"}


def test_too_few_parts_are_refused_and_none_is_made(nvml: OneGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.instances = ["MIG-a"]
    with (
        pytest.raises(SetupError, match="2 MIG devices are needed on one GPU, and GPU-1 has 1"),
        mig.prepared(PLAN.modes),
    ):
        pass
    nvml.absent = {"nvmlDeviceGetMaxMigDeviceCount"}
    with pytest.raises(SetupError, match="GPU-1 has 0"), mig.prepared(PLAN.modes):
        pass

    def absent() -> Any:
        raise ImportError("no pynvml")

    monkeypatch.setattr(mig, "load_pynvml", absent)
    with pytest.raises(SetupError, match=r"does not start here \(no pynvml\)"), mig.prepared(PLAN.modes):
        pass


def test_a_cut_gpu_is_no_whole_one_for_other_modes() -> None:
    check(replace(PLAN, device="cuda"))
    with pytest.raises(UsageError, match="mig beside mps"):
        check(in_modes(make_plan(), parse("mig,mps")))


def test_parts_of_one_gpu_are_one_device_to_the_conductor_in_this_mode_alone() -> None:
    """Else a run under MIG would be refused, or tenants of any run pass that are on parts of their own by mistake."""

    def where(plan: Any, *uuids: str) -> str:
        roster = Roster(plan, "", Limits())
        for name, uuid in zip(("fft", "gemm"), uuids, strict=True):
            roster.seats[name].opened = msg.Opened(device=device(uuid), cores=())
        return roster.different_devices()

    assert where(PLAN, "MIG-a", "MIG-b") == ""
    assert "MIG-b" in where(make_plan(), "MIG-a", "MIG-b")
    assert "GPU-2" in where(PLAN, "MIG-a", "GPU-2")


def test_the_report_says_that_each_had_its_own_and_complains_where_not() -> None:
    def outcome(*uuids: str, asked: str = MIG) -> tuple[str, str]:
        run = make_run(make_plan(rounds=4), lambda *_: (np.full(60, 10.0) + np.arange(60) / 100, None))
        workers = tuple(replace(one, device=device(uuid)) for one, uuid in zip(run.info.workers, uuids, strict=True))
        run.info = replace(run.info, workers=workers, backend="local", mode=SharingMode(asked=asked))
        (one, *_) = (one for one in analyse(run).summary.checks if one.code == "same-gpu")
        return one.outcome, one.text

    good, text = outcome("MIG-a", "MIG-b")
    assert good == "passed"
    assert "fft MIG-a, gemm MIG-b" in text
    assert outcome("MIG-a", "GPU-2")[0] == "failed"
    assert outcome("MIG-a", "MIG-b", asked="time-slicing")[0] == "failed"


def test_a_part_is_proven_by_the_drivers_name_and_number_of_it() -> None:
    (seen,) = seen_from("fft", device("MIG-a"), {})
    assert (seen.mode, seen.told) == (MIG, False)
    assert "1g.18gb (MIG-a)" in seen.seen
