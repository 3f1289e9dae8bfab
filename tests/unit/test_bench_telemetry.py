"""If these fail, the cost of telemetry is measured with it on both sides."""

from __future__ import annotations

import pytest
from bench.telemetry_df import OFF, plan_of, ratio, switched
from tests.helpers_conduct import MS, TOKEN

from kts.conduct import events as ev
from kts.conduct.machine import Machine
from kts.model.run import DeviceInfo
from kts.model.summary import Estimate
from kts.telemetry.sampler import Polling
from kts.wire import messages as msg

DEVICE = DeviceInfo(kind="cpu", uuid="h/core1", name="c", label="CPU core 1", library="numpy")


def test_blocks_without_telemetry_have_none_and_every_round_holds_both() -> None:
    """Else `off` would cost what `on` costs, and no difference would be found whatever it is."""
    plan = plan_of("cpu", 1.0, 4.0, 8.0, 2)
    plan.check()
    assert len(plan.conditions) == 4
    with switched() as polls:
        machine = Machine(plan, token=TOKEN, asks=False, now_ns=0)
        now = 0
        actions: list[ev.Action] = []
        for peer, tenant in enumerate(plan.tenants):
            hello = msg.Hello(
                worker=tenant.name, tenant=tenant.name, token=TOKEN, protocol=msg.PROTOCOL, pid=1, hostname="h"
            )
            actions += machine.handle(ev.Greeted(peer=peer, hello=hello), now)
        for tenant in plan.tenants:
            actions += machine.handle(
                ev.Received(tenant=tenant.name, message=msg.Opened(device=DEVICE, cores=(1,))), now
            )
        for tenant in plan.tenants:
            ready = msg.Ready(size=64, solo_ms=1.0)
            actions += machine.handle(ev.Received(tenant=tenant.name, message=ready), now)
        told: dict[str, bool] = {}
        started: dict[str, str] = {}
        polling = Polling([], "")
        for _ in range(len(plan.conditions)):
            actions = machine.handle(ev.SettleDone(), now := now + MS)
            block = next(a.fields for a in actions if isinstance(a, ev.Log) and a.kind == "block-started")
            starts = {
                a.tenant: a.message for a in actions if isinstance(a, ev.Send) and isinstance(a.message, msg.Start)
            }
            told[str(block["condition"])] = all(start.telemetry for start in starts.values())
            started |= dict.fromkeys(starts, str(block["condition"]))
            polling.poll()
            for name in starts:
                done = msg.BlockDone(block=int(block["block"] or 0), chunks=0, count=0)
                machine.handle(ev.Received(tenant=name, message=done), now := now + MS)
    assert told == {one.name: not one.name.endswith(OFF) for one in plan.conditions}
    assert polls == {"on": 2, "off": 2}


def test_the_ratio_of_two_ratios() -> None:
    """Else the cost would have the wrong sign, or an interval that is too narrow."""
    found = ratio(Estimate(estimate=1.1, lo=1.0, hi=1.2), Estimate(estimate=1.0, lo=0.9, hi=1.1))
    assert found.estimate == pytest.approx(1.1)
    assert found.lo is not None
    assert found.hi is not None
    assert found.lo < 1.1 / 1.1
    assert found.hi > 1.2
    assert ratio(Estimate(estimate=None, lo=None, hi=None, refused="few"), found).refused == "few"
