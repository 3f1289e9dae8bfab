"""`kts selfcheck` as a user runs it."""

from __future__ import annotations

import json
import subprocess

import pytest
from tests.helpers_cli import DEADLINE_S, KTS

pytestmark = [pytest.mark.e2e, pytest.mark.alone]


def test_the_whole_way_holds() -> None:
    """Else schedule, stop rule and analysis could give wrong figures together although each passes its tests."""
    command = [*KTS, "selfcheck", "--simulated", "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["passed"]
    judged = [check for tenant in found["tenants"] for check in tenant["checks"] if check["value"] is not None]
    assert {check["name"] for check in judged} == {"median", "coverage", "first-of-block", "no-change"}
