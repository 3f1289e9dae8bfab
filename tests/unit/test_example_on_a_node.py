"""examples/watch/on_a_node.py, as far as it needs no cluster."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module."""
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "watch"))
    return importlib.import_module("on_a_node")


def test_alerts_fire_sooner_and_are_the_deployed_ones(example: Any) -> None:
    """Else what it shows to fire would be other alerts than those of deploy/watch."""
    deployed = yaml.safe_load((ROOT / "deploy/watch/rules.yaml").read_text(encoding="utf-8"))["spec"]
    assert example.of_rules(None) == deployed
    sooner, before = (of["groups"][0]["rules"] for of in (example.of_rules(5), deployed))
    assert {one["for"] for one in sooner if "for" in one} == {"5s"}
    assert [{**one, "for": ""} for one in sooner] == [{**one, "for": ""} for one in before]


def test_its_pods_are_two_of_two_namespaces_with_the_image_asked_for(example: Any) -> None:
    """Else they would not be placed, or not on one GPU; or the units that it waits for would be nobody's."""
    objects = example.pods_of(ROOT / "examples/watch/node/pods.yaml", "team/torch:1")
    pods = [one for one in objects if one["kind"] == "Pod"]
    assert [example.unit(pod) for pod in pods] == ["watch-answers/decoder/model", "watch-trains/training/main"]
    assert [one["metadata"]["name"] for one in objects if one["kind"] == "Namespace"] == [
        "watch-answers",
        "watch-trains",
    ]
    for pod in pods:
        (container,) = pod["spec"]["containers"]
        assert container["image"] == "team/torch:1"
        assert container["resources"]["limits"] == {"nvidia.com/gpu": 1}
        (program,) = {word for part in container["command"] for word in re.findall(r"\S+\.py", part)}
        assert Path(program).name in example.programs("here")["data"]
