"""What the bench that holds a watch against a run gives to the watch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from bench.watch_runs import seen

from kts.units import NS_PER_S
from kts.watch.calls import CALL, FUNCTIONS

LAUNCH, WAIT = (
    next(number for number, one in enumerate(FUNCTIONS) if one.name == name)
    for name in ("cuLaunchKernel", "cuCtxSynchronize")
)


def test_each_call_stays_its_tenants_whatever_numbers_processes_have() -> None:
    """Else launches of one program end in round trips of the other, which then take four times as long as they did:
    processes get new numbers block by block, and these are others' old ones."""
    owner, ms = {5: "short", 6: "long"}, {5: 2, 6: 8}
    rows, blocks = [], []
    for number, processes in enumerate([(5,), (6,), (5, 6)] * 4):
        begin = (10 + 5 * number) * NS_PER_S
        blocks.append(SimpleNamespace(start_ns=begin, end_ns=begin + 4 * NS_PER_S, valid=True))
        for process in processes:
            for at in range(begin, begin + 4 * NS_PER_S - 10**7, 10**7):
                end = at + ms[process] * 10**6
                rows += [
                    (at, process, process, LAUNCH, 0),
                    (at + 1000, process, process, WAIT, 0),
                    (end, process, process, WAIT, 1),
                ]
    run: Any = SimpleNamespace(blocks=blocks)
    found = seen(np.sort(np.array(rows, CALL), order="ns"), owner, run, ("short", "long"))
    assert {name: round(one.p99_ms.estimate or 0, 2) for name, one in found.items()} == {"short": 2.0, "long": 8.0}
    assert all(abs((one.cost.df99.estimate or 0) - 1) < 0.01 for one in found.values())
