"""`kts profile --on k8s` on a real cluster."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.cluster.test_run import experiment, left, options
from tests.helpers_cli import kts
from tests.helpers_cluster import on_a_cluster

from kts.k8s.cluster.api import Api

pytestmark = on_a_cluster()


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
