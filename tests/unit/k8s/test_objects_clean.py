"""Removing a run from a cluster that is slow, or away for a moment. The clock is a fake one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from kts.errors import SetupError
from kts.k8s.cluster.api import Unavailable
from kts.k8s.cluster.creation import GONE_S, SLOW_S, clean


class SlowCluster:
    """Has a Job and its pod, which goes ``lingers_s`` after it was deleted; is away from ``away`` on, for a while."""

    def __init__(self, lingers_s: float, away: tuple[float, float] = (0.0, 0.0)) -> None:
        self.now_s = 0.0
        self.deleted: dict[str, float] = {}
        self._lingers_s, self._away = lingers_s, away

    def list(self, kind: str, namespace: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        self._answer()
        assert (namespace, dict(labels)) == ("kts", {"kts.dev/run": "r"})
        there = {"Job": "Job" not in self.deleted, "Pod": self.now_s < self.deleted.get("Pod", 1e9) + self._lingers_s}
        return [{"metadata": {"name": kind.lower()}}] if there.get(kind) else []

    def delete(self, kind: str, name: str, namespace: str, *, grace_s: int | None = None) -> bool:
        del grace_s
        self._answer()
        assert (name, namespace) == (kind.lower(), "kts")
        assert kind not in self.deleted, "asked twice"
        self.deleted[kind] = self.now_s
        return True

    def _answer(self) -> None:
        if self._away[0] <= self.now_s < self._away[1]:
            raise Unavailable("connection refused", "wait")

    def pause(self, seconds: float) -> None:
        self.now_s += seconds


def cleaned(cluster: SlowCluster, told: Callable[[str], None] | None = None) -> int:
    """`clean` on the fake cluster, by its clock."""
    return clean(cluster, "r", "kts", told=told, now=lambda: cluster.now_s, pause=cluster.pause)  # type: ignore[arg-type]


@pytest.mark.parametrize("away", [(0.0, 20.0), (0.25, 40.0)])
def test_a_server_that_is_away_is_waited_for(away: tuple[float, float]) -> None:
    """Else an outage at the end of a run would leave its pods on the GPU."""
    cluster = SlowCluster(1.0, away)
    assert cleaned(cluster) == 2
    assert cluster.deleted.keys() == {"Job", "Pod"}


def test_pods_that_the_cluster_is_slow_to_let_go_are_waited_for_and_the_user_is_told_once() -> None:
    """Else kts would say that it is done while a pod still holds its slot, or would seem to hang."""
    said: list[str] = []
    cluster = SlowCluster(60.0)
    assert cleaned(cluster, said.append) == 2
    assert cluster.now_s >= 60
    assert len(said) == 1
    assert "Pod pod" in said[0]
    quick: list[str] = []
    assert cleaned(SlowCluster(SLOW_S / 2), quick.append) == 2
    assert quick == []


def test_what_never_goes_is_named() -> None:
    """Else the user would not know what to remove by hand."""
    with pytest.raises(SetupError, match="Pod pod") as caught:
        cleaned(SlowCluster(1e6))
    assert "kts clean r" in caught.value.remedy
    cluster = SlowCluster(1.0, (0.0, 1e6))
    with pytest.raises(Unavailable):
        cleaned(cluster)
    assert GONE_S < cluster.now_s < GONE_S + 2
