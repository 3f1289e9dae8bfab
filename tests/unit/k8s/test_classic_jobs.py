"""The classic design's Jobs, against Kubernetes' own schemas and against what the published system has."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml

from kts.errors import UsageError
from kts.k8s.objects import classic_jobs, manifests
from kts.k8s.objects.names import LABEL_BLOCK, LABEL_RUN, LABEL_TENANT
from kts.k8s.objects.settings import ClusterSettings
from kts.model.plan import Plan
from kts.plan import build
from kts.spec import load, load_text

OLDEST, NEWEST = "1.31.0", str(kubernetes_validate.latest_version())
SETTINGS = [
    ClusterSettings(),
    ClusterSettings(claim="gpu", resource=""),
    ClusterSettings(resource="nvidia.com/mig-1g.10gb", node="n1", node_selector={"a": "b"}, runtime_class=""),
    ClusterSettings(pod_template={"spec": {"priorityClassName": "high"}}),
]


def reference(device: str = "cuda") -> Plan:
    """The published settings."""
    import msgspec

    return msgspec.structs.replace(build(load("reference").experiment), device=device)


def plan(text: str) -> Plan:
    """A plan of these tenants."""
    return build(load_text(f"design: classic\ndevice: cpu\ntenants:\n{text}", source="test").experiment)


def jobs(of: Plan, settings: ClusterSettings | None = None) -> list[dict[str, Any]]:
    """All its Jobs, in order."""
    chosen = settings or ClusterSettings()
    return [job for block in classic_jobs.blocks(of) for job in classic_jobs.jobs(of, block, "demo-1", chosen)]


def stages(of: Plan, settings: ClusterSettings) -> list[tuple[str, list[dict[str, Any]]]]:
    """All its objects."""
    return classic_jobs.stages(
        of, run="demo-1", token="t", settings=settings, experiment_text="x", created="2026-01-01T00:00:00Z"
    )


def env(job: dict[str, Any]) -> dict[str, Any]:
    """The worker's environment."""
    return {item["name"]: item.get("value") for item in worker(job)["env"]}


def worker(job: dict[str, Any]) -> dict[str, Any]:
    """The one container."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return dict(container)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_every_object_is_valid(version: str, settings: ClusterSettings, device: str) -> None:
    """Else the API server would refuse the run, or drop a misspelt field in silence."""
    for _, objects in classic_jobs.stages(
        reference(device),
        run="demo-1",
        token="t",
        settings=settings,
        experiment_text="x",
        created="2026-01-01T00:00:00Z",
    ):
        for obj in objects:
            kubernetes_validate.validate(obj, version, strict=True)


def test_there_are_the_published_systems_three_sets_of_jobs() -> None:
    """Else it would be another design under the same name."""
    names = [job["metadata"]["name"] for job in jobs(reference())]
    assert names == [
        "kts-demo-1-0-solo-fft",
        "kts-demo-1-1-solo-gemm",
        "kts-demo-1-2-shared-fft",
        "kts-demo-1-2-shared-gemm",
    ]
    published = {"fft": ("fft", "800", "4096", "100"), "gemm": ("gemm", "800", "4096", "150")}
    for job in jobs(reference()):
        tenant, values = job["metadata"]["labels"][LABEL_TENANT], env(job)
        assert (worker(job)["args"][0], values["ITERATIONS"], values["MATRIX_SIZE"], values["SLEEP_MS"]) == published[
            tenant
        ]
        assert worker(job)["command"] == ["python3", "-P", "-m", "kts.worker"]
        assert "SLEEP_JITTER" not in values  # published pauses are fixed
        assert job["spec"]["template"]["spec"]["runtimeClassName"] == "nvidia"
        for kind in ("limits", "requests"):
            assert worker(job)["resources"][kind]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize("settings", SETTINGS)
def test_restricted_pod_security_is_kept_and_nothing_is_pulled_or_tried_twice(settings: ClusterSettings) -> None:
    """Else it could not run where namespaces enforce it, or a retry would be measured."""
    for job in jobs(reference(), settings):
        spec = job["spec"]["template"]["spec"]
        assert (job["spec"]["backoffLimit"], spec["restartPolicy"], worker(job)["imagePullPolicy"]) == (
            0,
            "Never",
            "Never",
        )
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"]
        assert worker(job)["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert worker(job)["securityContext"]["readOnlyRootFilesystem"]


def test_the_pods_of_a_block_are_drawn_to_one_node() -> None:
    """Else the shared block could be measured on two GPUs."""
    labels = {LABEL_RUN: "demo-1"}  # the conductor's too, which is there when the pods of the block before are gone
    for job in jobs(reference()):
        spec = job["spec"]["template"]["spec"]
        (term,) = spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term == {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
        assert job["spec"]["template"]["metadata"]["labels"].items() >= labels.items()


def test_what_the_plan_asks_for_reaches_the_worker() -> None:
    """Else jitter, warm-up or a duration would be left out in silence."""
    of = plan(
        "  a: {workload: fft, target_ms: 2.5, think_ms: 7, jitter: 0.25, seconds: 3, warmup: 9}\n"
        "  b-1: {workload: gemm, size: 64, think_ms: 0, iterations: 10}\n"
    )
    first, second, *shared = jobs(of)
    assert env(first).items() >= {
        "TARGET_MS": "2.5", "SLEEP_MS": "7", "SLEEP_JITTER": "0.25", "DURATION_S": "3", "WARMUP": "9",
        "KTS_APP_NAME": "A", "KTS_PHASE": "solo", "KTS_LOG": "framed", "KTS_CORES": "last",
    }.items()  # fmt: skip
    assert env(second).items() >= {"MATRIX_SIZE": "64", "ITERATIONS": "10", "KTS_APP_NAME": "B-1"}.items()
    assert {env(job)["KTS_PHASE"] for job in shared} == {"shared"}
    assert env(first)["KTS_SEED"] != env(shared[0])["KTS_SEED"]  # another block, other pauses


def test_rendered_jobs_of_later_blocks_wait() -> None:
    """Else applying all objects at once would run solo and shared at the same time."""
    found = classic_jobs.stages(
        reference(),
        run="demo-1",
        token="t",
        settings=ClusterSettings(),
        experiment_text="x",
        created="2026-01-01T00:00:00Z",
    )
    assert [what for what, _ in found] == [
        "the run",
        "block 1: solo-fft",
        "block 2: solo-gemm",
        "block 3: shared-fft+gemm",
    ]
    suspended = [[obj["spec"].get("suspend", False) for obj in objects] for _, objects in found[1:]]
    assert suspended == [[False], [True], [True, True]]
    assert all("&id" not in manifests.to_yaml(objects) for _, objects in found)
    assert len(list(yaml.safe_load_all("---\n".join(manifests.to_yaml(objects) for _, objects in found)))) == 10


def test_blocks_can_be_told_apart_by_a_label() -> None:
    """Else the shared pod of a tenant could be taken for its solo one."""
    found = [
        (job["metadata"]["labels"][LABEL_BLOCK], job["metadata"]["labels"][LABEL_TENANT]) for job in jobs(reference())
    ]
    assert found == [("0", "fft"), ("1", "gemm"), ("2", "fft"), ("2", "gemm")]


def test_an_image_that_nobody_chose_is_refused() -> None:
    """Else an image would be pulled where the published system never does."""
    with pytest.raises(UsageError, match="never pulls"):
        classic_jobs.check(ClusterSettings(pull_policy="Always"))
    classic_jobs.check(ClusterSettings())


@pytest.mark.parametrize(
    "tenant",
    ["{workload: command, command: sleep 1}", "{workload: decode}", "{workload: fft, arrivals: poisson, rate_hz: 5}"],
)
def test_what_a_worker_alone_cannot_do_comes_from_the_conductor_alone(tenant: str) -> None:
    """Else a pod would fail on its arguments, or an open loop run as a closed one."""
    of = plan(f"  a: {tenant}\n  b: {{workload: fft}}\n")
    mine, other, *_ = jobs(of)
    assert worker(mine)["args"] == ["--join"]
    assert not {"ITERATIONS", "SLEEP_MS", "KTS_APP_NAME"} & env(mine).keys()
    assert worker(other)["args"][0] == "fft"


def test_every_job_joins_the_runs_conductor_for_its_block() -> None:
    """Else nobody would keep what it measures, or a block's records be taken for another's."""
    for job in jobs(reference()):
        labels, values = job["metadata"]["labels"], env(job)
        assert values["KTS_BLOCK"] == labels[LABEL_BLOCK]
        assert values["KTS_TENANT"] == labels[LABEL_TENANT]
        assert values["KTS_CONDUCTOR"].startswith("$(KTS_DEMO_1_SERVICE_HOST):")
        assert "value" not in next(item for item in worker(job)["env"] if item["name"] == "KTS_TOKEN")
