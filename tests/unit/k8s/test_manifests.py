"""The objects of a run, against Kubernetes' own schemas and what a restricted namespace allows."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kts.errors import UsageError
from kts.k8s.objects import manifests, runnames
from kts.k8s.objects.names import LABEL_RUN
from kts.k8s.objects.settings import ClusterSettings
from kts.model.plan import Plan
from kts.plan import build
from kts.spec import load_text

OLDEST, NEWEST = "1.31.0", str(kubernetes_validate.latest_version())
TOKEN = "the-token-of-the-run"


def plan(*names: str, device: str = "cuda") -> Plan:
    """Tenants of these names."""
    tenants = "".join(f"  {name}: {{workload: fft, size: 32}}\n" for name in names)
    return build(load_text(f"name: x\ndevice: {device}\ntenants:\n{tenants}", source="test").experiment)


def rendered(of: Plan, settings: ClusterSettings | None = None, run: str = "demo-1") -> list[dict[str, Any]]:
    """All objects."""
    return manifests.render(
        of,
        run=run,
        token=TOKEN,
        settings=settings or ClusterSettings(),
        experiment_text="x",
        created="2026-01-01T00:00:00Z",
    )


def pod_specs(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Specs of the Pod and of the Jobs' pods."""
    jobs = [o["spec"]["template"]["spec"] for o in objects if o["kind"] == "Job"]
    return [o["spec"] for o in objects if o["kind"] == "Pod"] + jobs


SETTINGS = [
    ClusterSettings(),
    ClusterSettings(claim="gpu", resource=""),
    ClusterSettings(resource="nvidia.com/mig-1g.10gb", node="n1", node_selector={"a": "b"}, runtime_class=""),
    ClusterSettings(tolerations=({"key": "nvidia.com/gpu", "operator": "Exists"},), create_namespace=False),
    ClusterSettings(pod_template={"metadata": {"annotations": {"x": "y"}}, "spec": {"priorityClassName": "high"}}),
]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_every_object_is_valid(version: str, settings: ClusterSettings, device: str) -> None:
    """Else the API server would refuse the run, or drop a misspelt field in silence."""
    for obj in rendered(plan("fft", "gemm", device=device), settings):
        kubernetes_validate.validate(obj, version, strict=True)


@pytest.mark.parametrize("settings", SETTINGS)
def test_restricted_pod_security_is_kept(settings: ClusterSettings) -> None:
    """Else the run could not start where namespaces enforce it."""
    for spec in pod_specs(rendered(plan("fft", "gemm"), settings)):
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"]


def test_the_token_is_in_the_secret_alone() -> None:
    """Else it would be in plain sight of whoever may read pods."""
    objects = rendered(plan("fft", "gemm"))
    assert [o["kind"] for o in objects if TOKEN in str(o)] == ["Secret"]


def test_all_but_the_namespace_goes_with_the_owner() -> None:
    """Else deleting the owner would leave something behind."""
    objects = rendered(plan("fft", "gemm"))
    owned = manifests.owned(objects, "uid-1")
    assert len(owned) == len(objects) - 2
    assert all(o["metadata"]["ownerReferences"][0]["uid"] == "uid-1" for o in owned)
    assert all(o["metadata"]["labels"][LABEL_RUN] == "demo-1" for o in objects if o["kind"] != "Namespace")


def test_tenants_on_the_cpu_share_a_core_and_have_no_limit_on_it() -> None:
    """Else throttling would be measured, or nothing be shared."""
    for obj in rendered(plan("fft", "gemm", device="cpu")):
        if obj["kind"] == "Job":
            container = obj["spec"]["template"]["spec"]["containers"][0]
            assert {"name": "KTS_CORES", "value": "last"} in container["env"]
            assert "cpu" not in container["resources"]["limits"]


def test_a_tenant_beside_a_gpu_is_guaranteed_a_whole_cpu() -> None:
    """Else the kernel's scheduler would add to what the GPU does."""
    job = next(o for o in rendered(plan("fft", "gemm")) if o["kind"] == "Job")
    resources = job["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources["limits"] == resources["requests"]
    assert resources["limits"]["cpu"] == "1"
    assert resources["limits"]["nvidia.com/gpu"] == "1"


def test_the_users_template_is_merged_by_container_name() -> None:
    """Else a user's one setting would replace all of ours."""
    template = {
        "spec": {"containers": [{"name": "worker", "env": [{"name": "A", "value": "b"}]}], "runtimeClassName": None}
    }
    job = next(o for o in rendered(plan("fft", "gemm"), ClusterSettings(pod_template=template)) if o["kind"] == "Job")
    spec = job["spec"]["template"]["spec"]
    worker = spec["containers"][0]
    assert {"name": "A", "value": "b"} in worker["env"]
    assert any(item["name"] == "KTS_TOKEN" for item in worker["env"])
    assert worker["command"]
    assert "runtimeClassName" not in spec


def test_what_the_users_template_says_of_the_worker_is_not_for_the_conductor() -> None:
    """Else the conductor's pod would get a container without an image, and be refused."""
    template = {"spec": {"containers": [{"name": "worker", "env": [{"name": "A", "value": "b"}]}]}}
    objects = rendered(plan("fft", "gemm"), ClusterSettings(pod_template=template))
    pod = next(o for o in objects if o["kind"] == "Pod")
    assert [container["name"] for container in pod["spec"]["containers"]] == ["conductor"]


names = st.from_regex(r"\A[a-z0-9](?:[-a-z0-9]{0,38}[a-z0-9])?\Z")


@given(st.lists(names, min_size=2, max_size=8, unique=True), st.from_regex(r"\A[a-z0-9](?:[-a-z0-9]{0,28}[a-z0-9])?\Z"))
def test_names_fit_whatever_the_tenants_are_called(tenants: list[str], run: str) -> None:
    """Else a long name would be refused, or two tenants would get one Job."""
    jobs = [runnames.job_name(run, tenant) for tenant in tenants]
    assert len(set(jobs)) == len(tenants)
    assert all(len(name) <= 63 and name[-1] != "-" for name in (*jobs, runnames.conductor_name(run)))


@pytest.mark.parametrize("run", ["", "A", "-a", "a-", "a" * 31, "a_b", "a\n"])
def test_a_run_id_that_cannot_be_a_name_is_refused(run: str) -> None:
    """Else the API server would refuse it, object by object."""
    with pytest.raises(UsageError):
        runnames.checked_run_id(run)


@pytest.mark.parametrize(
    ("device", "settings", "sees"),
    [
        ("cuda", ClusterSettings(), True),
        ("cpu", ClusterSettings(), False),
        ("cuda", ClusterSettings(telemetry=False), False),
    ],
)
def test_the_conductor_sees_nvml_only_on_a_gpu_run_with_telemetry_and_takes_no_slot(
    device: str, settings: ClusterSettings, sees: bool
) -> None:
    """Else it would take a tenant's slot, or ask for a GPU where there is none."""
    (pod,) = (o for o in rendered(plan("fft", "gemm", device=device), settings) if o["kind"] == "Pod")
    (container,) = pod["spec"]["containers"]
    env = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert (env.get("NVIDIA_VISIBLE_DEVICES"), env.get("NVIDIA_DRIVER_CAPABILITIES")) == (
        ("all", "utility") if sees else (None, None)
    )
    assert pod["spec"].get("runtimeClassName") == ("nvidia" if sees else None)
    assert env["KTS_TELEMETRY"] == ("on" if settings.telemetry else "off")
    assert not any("nvidia" in name for part in container["resources"].values() for name in part)


def test_the_exporters_address_reaches_the_conductor_alone() -> None:
    """Else `--dcgm` would be taken and nothing be scraped."""
    settings = ClusterSettings(dcgm="http://exporter:9400/metrics")
    specs = pod_specs(rendered(plan("fft", "gemm"), settings))
    told = [{"name": "KTS_DCGM", "value": settings.dcgm} in spec["containers"][0]["env"] for spec in specs]
    assert told == [True, False, False]


def node_terms(settings: ClusterSettings) -> list[list[dict[str, Any]]]:
    """What the pods ask of their node by affinity, pod by pod."""
    affinities = [spec["affinity"].get("nodeAffinity", {}) for spec in pod_specs(rendered(plan("a", "b"), settings))]
    return [found.get(REQUIRED, {}).get("nodeSelectorTerms", []) for found in affinities]


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PIN = {"key": "metadata.name", "operator": "In", "values": ["n1"]}


def test_a_node_is_asked_for_by_its_name() -> None:
    """Else a node whose hostname label is not its name could not be chosen, or another one would be."""
    assert node_terms(ClusterSettings(node="n1")) == [[{"matchFields": [PIN]}]] * 3
    assert node_terms(ClusterSettings()) == [[]] * 3
    assert not any("nodeSelector" in spec for spec in pod_specs(rendered(plan("a", "b"), ClusterSettings(node="n1"))))


def test_a_template_cannot_move_the_run_to_another_node() -> None:
    """Else the run would go to a node whose slots nobody had looked at."""
    wanted = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]} for zone in ("a", "b")]
    template = {"spec": {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": wanted}}}}}
    for terms in node_terms(ClusterSettings(node="n1", pod_template=template)):
        assert terms == [{**term, "matchFields": [PIN]} for term in wanted]
