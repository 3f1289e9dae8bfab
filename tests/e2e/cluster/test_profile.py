"""`kts profile --on k8s` on a real cluster."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.e2e.cluster.test_run import NEEDED, experiment, left, options
from tests.helpers_cli import kts

from kts.k8s.cluster.api import Api

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.e2e,
    pytest.mark.skipif(not all(map(os.environ.get, NEEDED)), reason=f"needs a cluster: {' and '.join(NEEDED)}"),
]


def test_a_tenant_is_profiled_in_a_pod_and_nothing_is_left(tmp_path: Path) -> None:
    """Else who has a GPU only in pods could predict nothing."""
    done = kts(
        "profile", experiment(tmp_path, 2), *options(), "--tenant", "t0", "--seconds", "1", "--out", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "out" / "t0.profile.json").read_text(encoding="utf-8"))
    assert made["gpu"]["kind"] == "cpu"
    assert made["solo_service"]["n"] > 0
    api = Api.connect()
    try:
        assert left(api) == []
    finally:
        api.close()
