"""examples/02_own_program in a real worker."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.helpers_worker_conductor import TinyConductor

from kts.model.plan import Program, Quota, Tenant
from kts.wire.messages import Finish

pytestmark = pytest.mark.e2e

SORTER = Path(__file__).parents[2] / "examples" / "02_own_program" / "sorter.py"


def test_the_example_program_is_measured() -> None:
    """Otherwise the first thing a user copies does not work."""
    work = Program(command=(str(SORTER),), env={"SORTER_NUMBERS": "1000", "SORTER_PAUSE_MS": "1"})
    with TinyConductor() as conductor:
        conductor.start_worker()
        _, ready = conductor.welcome(Tenant(name="agent", work=work))
        assert ready.solo_ms is not None
        conductor.start_block(0, Quota(iterations=20, linger=False))
        done, records = conductor.finish_block()
        assert done.count == 20
        assert (records["device_ms"] > 0).all()
        conductor.send(Finish())
        assert conductor.worker_ends()[0] == 0
