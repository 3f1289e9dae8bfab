"""What `kts k8s render` prints, letter by letter. `python -m tests.helpers_render` writes it anew; review it."""

from __future__ import annotations

import re

import pytest
import yaml
from tests.helpers_cli import errors, kts_here
from tests.helpers_render import CASES, EXPERIMENT, GOLDEN, rendered, token_of, without_token


@pytest.mark.parametrize("name", CASES)
def test_the_objects_of_a_run_change_only_on_purpose(name: str) -> None:
    """Else a change of what runs in a user's cluster would go unreviewed."""
    assert without_token(rendered(*CASES[name])) == (GOLDEN / name).read_text(encoding="utf-8")


def test_each_output_has_a_token_of_its_own_in_one_place() -> None:
    """Else whoever saw one run's objects could read and stop the next run."""
    texts = [rendered(EXPERIMENT) for _ in range(2)]
    tokens = [token_of(text) for text in texts]
    assert tokens[0] != tokens[1]
    assert all(len(token) >= 32 for token in tokens)
    assert [text.count(token) for text, token in zip(texts, tokens, strict=True)] == [1, 1]


@pytest.mark.parametrize("epoch", ["yesterday", "-1", "1.5", "9" * 30])
def test_a_time_that_is_none_is_named(epoch: str) -> None:
    """Else a wrong SOURCE_DATE_EPOCH would be a traceback, or be ignored."""
    done = kts_here("k8s", "render", EXPERIMENT, SOURCE_DATE_EPOCH=epoch)
    assert done.returncode == 2
    assert "SOURCE_DATE_EPOCH" in errors(done)[0]


def test_every_choice_of_the_command_line_reaches_the_objects() -> None:
    """Else an option would be taken, and the pods would be as before."""
    options = ("--pod-cpu", "2", "--pod-memory", "8Gi", "--join-seconds", "77", "--keep-seconds", "88")
    options += ("--dcgm", "http://exporter:9400/metrics", "--service-account", "looks")
    objects = list(yaml.safe_load_all(rendered(EXPERIMENT, *options, "--toleration", "gpu=yes:NoExecute")))
    (pod,) = (obj["spec"] for obj in objects if obj["kind"] == "Pod")
    jobs = [obj["spec"]["template"]["spec"] for obj in objects if obj["kind"] == "Job"]
    for job in jobs:
        (container,) = job["containers"]
        assert container["resources"]["limits"] == {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": "1"}
        assert {"name": "KTS_JOIN_S", "value": "77"} in container["env"]
    conductor = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    assert (conductor["KTS_JOIN_S"], conductor["KTS_KEEP_S"]) == ("77", "88")
    assert conductor["KTS_DCGM"] == "http://exporter:9400/metrics"
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("looks", True)
    assert [("serviceAccountName" in job, job["automountServiceAccountToken"]) for job in jobs] == [(False, False)] * 2
    tolerated = [
        {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoExecute"},
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
    ]
    assert [spec["tolerations"] for spec in (pod, *jobs)] == [tolerated] * 3


@pytest.mark.parametrize(("option", "text"), [("--pod-cpu", "two"), ("--pod-memory", "8 GB"), ("--pod-memory", "-1Gi")])
def test_a_quantity_that_is_none_is_named(option: str, text: str) -> None:
    """Else the API server would refuse the run half-way, in its own words."""
    done = kts_here("k8s", "render", EXPERIMENT, f"{option}={text}")
    assert done.returncode == 2
    assert option in errors(done)[0]


@pytest.mark.parametrize("extra", ["cpu", "torch"])
def test_the_image_is_the_one_that_is_loaded(extra: str) -> None:
    """Else what is applied would wait for an image that nobody loads."""
    done = kts_here("k8s", "render", EXPERIMENT, "--extra", extra, "--design", "classic")
    loaded = kts_here("k8s", "image", "--name", "--extra", extra).stdout.strip()
    assert set(re.findall(r"^ +(?:- )?image: (.*)$", done.stdout, re.MULTILINE)) == {loaded}
    assert f"# Its image is {loaded}. If it is not on the nodes yet: kts k8s image --extra {extra}\n" in done.stdout


def test_a_namespace_that_is_there_can_be_left_out() -> None:
    """Else a user who may not change namespaces could not apply what is printed."""
    kinds = {o["kind"] for o in yaml.safe_load_all(rendered(EXPERIMENT, "--without-namespace"))}
    assert "ConfigMap" in kinds
    assert "Namespace" not in kinds
