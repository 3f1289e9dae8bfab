"""`kts selfcheck` as a user runs it."""

from __future__ import annotations

import json
import subprocess

import pytest
from tests.helpers_cli import DEADLINE_S, KTS

pytestmark = pytest.mark.e2e


def test_the_whole_way_holds() -> None:
    """Else schedule, stop rule and analysis could give wrong figures together although each passes its tests."""
    command = [*KTS, "selfcheck", "--simulated", "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["passed"]
    judged = [check for tenant in found["tenants"] for check in tenant["checks"] if check["value"] is not None]
    assert {check["name"] for check in judged} == {"median", "coverage", "first-of-block", "no-change"}


@pytest.mark.alone
def test_the_instrument_is_checked_on_this_machine() -> None:
    """Else a clock, a worker or telemetry that is off here would show in a run, if at all."""
    command = [*KTS, "selfcheck", "--quick", "--device", "cpu", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE_S, check=False)
    found = json.loads(done.stdout)
    states = {part["name"]: part["state"] for part in found["parts"]}
    # a busy machine may fail what it is asked: then the command says so, in both ways
    assert found["passed"] == ("failed" not in states.values())
    assert (done.returncode == 0, found["is_gpu"]) == (found["passed"], False), done.stderr
    assert done.returncode in {0, 1}, done.stderr
    assert states["clock"] == states["stopwatch, step"] == "passed"
    assert {"equal tenants, p99", "telemetry on and off, p99", "stopwatch, linear", "stopwatch, cost"} < set(states)
    delays = [part for part in found["parts"] if part["name"].startswith("injected")]
    assert len(delays) == 3
    assert all(part["value"] > 1 for part in delays if part["value"] is not None)
