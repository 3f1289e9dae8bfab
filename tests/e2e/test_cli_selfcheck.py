"""`kts selfcheck` as a user runs it."""

from __future__ import annotations

import json

import pytest
from tests.helpers_cli import kts

pytestmark = pytest.mark.e2e


def test_the_whole_way_holds() -> None:
    """Else schedule, stop rule and analysis could give wrong figures together although each passes its tests."""
    done = kts("selfcheck", "--simulated", "--quick", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["passed"]
    judged = [check for tenant in found["tenants"] for check in tenant["checks"] if check["value"] is not None]
    assert {check["name"] for check in judged} == {"median", "coverage", "first-of-block", "no-change"}
