"""Options that name what Kubernetes cannot take are refused before anything is rendered or sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.helpers_cli import errors, kts_here

from kts.cli.cluster_options import RunPlace
from kts.errors import UsageError
from kts.k8s.objects import podtemplate, rules

REFUSED = [
    *(("resource", text) for text in ("gpu", "nvidia.com/gpu:2", "nvidia.com/gpu=1", "nvidia.com/", "/gpu", "a/b/c")),
    *(
        ("resource", text)
        for text in ("nvidia.com/gpu ", "NVIDIA.com/gpu", "kubernetes.io/x", "nvidia.com/" + "x" * 64)
    ),
    *(
        ("node_selector", [text])
        for text in ("gpu=Tesla T4", "a=b=c", "=x", "gpu", "a b=c", "x/y/z=1", f"a={'b' * 64}")
    ),
    *(("toleration", [text]) for text in ("a b", "a=b c", "a:Always", "=x", "nvidia.com/gpu=-x:NoSchedule")),
    *(("runtime_class", text) for text in ("Nvidia_X", "-nvidia", "nvidia\n", "a..b")),
    *(("claim", text) for text in ("my claim", "Claim", "a/b", "x" * 254)),
    *(("node", text) for text in ("my_node", "Node-1", "node/1")),
    *(
        ("image", text)
        for text in ("Foo:Bar baz", "Foo", "x:", "x:1 ", "registry.example/Foo:1", "x@sha256:12", "http://x/y")
    ),
    *(("pod_cpu", text) for text in ("two", "-1", "1 CPU", "1,5")),
    *(("pod_memory", text) for text in ("4gb", "4GiB", "1K", "four")),
]


@pytest.mark.parametrize(("field", "value"), REFUSED, ids=str)
def test_what_kubernetes_cannot_take_is_refused_with_its_option(field: str, value: Any) -> None:
    """Else the API server would be the first to say so, after the image was built and loaded."""
    with pytest.raises(UsageError, match="--" + field.replace("_", "-")) as error:
        RunPlace(**{field: value}).run_settings(telemetry=True, dcgm="")
    assert error.value.exit_code == 2
    assert error.value.remedy


TAKEN: list[tuple[str, Any]] = [
    *(("resource", text) for text in ("", "nvidia.com/gpu.shared", "nvidia.com/mig-1g.5gb", "amd.com/gpu")),
    *(("node_selector", [text]) for text in ("disktype=ssd", "nvidia.com/gpu.product=Tesla-T4", "a=", "a_b=C.d")),
    *(("toleration", [text]) for text in ("gpu", "gpu=yes:NoExecute", "nvidia.com/gpu:NoSchedule", "a=:NoSchedule")),
    *(("image", text) for text in ("x", "x:1", "localhost:5000/a/b__c:v1.2-rc_3", "a.b/c@sha256:" + "0f" * 32)),
    *(("node", text) for text in ("", "ip-10-0-0-1.ec2.internal")),
    *(("pod_cpu", text) for text in ("2", "1500m", "0.5", "1e1")),
    *(("pod_memory", text) for text in ("8Gi", "1e9", "512M")),
]


@pytest.mark.parametrize(("field", "value"), TAKEN, ids=str)
def test_what_kubernetes_takes_is_taken(field: str, value: Any) -> None:
    """Else a cluster could not be used for a rule of ours."""
    RunPlace(**{field: value}).run_settings(telemetry=True, dcgm="")


@pytest.mark.parametrize("text", ["My_NS", "a.b", "-a", "a" * 64, "", "../kube-system", "a\n"])
def test_a_namespace_is_a_label_of_dns(text: str) -> None:
    """Else it would become part of another path of the API server."""
    with pytest.raises(UsageError, match="--namespace"):
        rules.namespace("--namespace", text)


def test_every_command_with_a_namespace_checks_it() -> None:
    """Else some options would be checked and others not."""
    for command in (("k8s", "render", "demo"), ("doctor", "--on", "k8s"), ("attach", "x"), ("clean", "x")):
        done = kts_here(*command, "--namespace", "My_NS")
        assert (done.returncode, "--namespace: 'My_NS'" in done.stderr) == (2, True), (command, done.stderr)


TEMPLATES = {
    "a Deployment": ("spec: {template: {spec: {priorityClassName: low}}}", "spec.template is no field"),
    "a Job's": ("spec: {backoffLimit: 3}", "spec.backoffLimit is no field"),
    "a whole object": ("apiVersion: v1\nkind: Pod\nspec: {}", "is no pod template"),
    "kts's label": ("metadata: {labels: {kts.dev/run: other}}", "'kts.dev/run' is kts's own"),
    "kts's label taken away": ("metadata: {labels: {kts.dev/role: null}}", "'kts.dev/role' is kts's own"),
    "the app's label": ("metadata: {labels: {app.kubernetes.io/name: x}}", "kts's own"),
    "kts's annotation": ("metadata: {annotations: {kts.dev/created: x}}", "kts's own"),
    "a number": ("metadata: {labels: {n: 1}}", "'n' has a value that is no text: 1"),
    "yes": ("metadata: {labels: {b: yes}}", "'b' has a value that is no text: True"),
    "a date": ("metadata: {annotations: {d: 2026-01-01}}", "'d' has a value that is no text"),
    "a number as a name": ("metadata: {labels: {1: a}}", "1 is no name"),
    "spaces": ("metadata: {labels: {a: b c}}", "has the value 'b c'"),
    "another name": ("metadata: {name: mine}", "metadata.name cannot be changed"),
    "another place": ("metadata: {namespace: kube-system}", "metadata.namespace cannot be changed"),
    "labels as a list": ("metadata: {labels: [a]}", "labels is no mapping"),
    "spec as a list": ("spec: [containers]", "spec is no mapping"),
    "no containers": ("spec: {containers: null}", "spec.containers is no list of items with a name"),
    "a container without a name": ("spec: {containers: [{env: []}]}", "spec.containers is no list"),
    "restarts": ("spec: {restartPolicy: Always}", "spec.restartPolicy cannot be changed"),
}


@pytest.mark.parametrize(("text", "why"), TEMPLATES.values(), ids=TEMPLATES)
def test_a_template_that_would_break_the_run_is_refused(text: str, why: str) -> None:
    """Else pods would be refused by the server, or the run could not be looked up and removed."""
    with pytest.raises(UsageError, match=why) as error:
        podtemplate.checked(yaml.safe_load(text))
    assert error.value.remedy


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "metadata:\nspec:\n",
        "metadata: {labels: {example.com/team: a}, annotations: {note: 'two words, and more'}}",
        "spec: {priorityClassName: low, containers: [{name: worker, env: [{name: A, value: b}]}, {name: side}]}",
    ],
)
def test_a_template_of_a_pod_is_taken(text: str) -> None:
    """Else what users need of their cluster could not be said."""
    podtemplate.checked(yaml.safe_load(text))


def test_a_template_that_is_no_yaml_is_one_line(tmp_path: Path) -> None:
    """Else the user would see a traceback."""
    for number, content in enumerate((b"\xff\xfe", b"a: [", b"[" * 5000, b"a: b\n---\nc: d\n")):
        path = tmp_path / str(number)
        path.write_bytes(content)
        with pytest.raises(UsageError, match=str(path)) as error:
            RunPlace(pod_template=path).run_settings(telemetry=True, dcgm="")
        assert "\n" not in error.value.what


def test_in_a_pod_the_environment_names_image_and_variant() -> None:
    """Else kts in a pod would look for sources to build of, or start tenants for a GPU library that is not there."""
    released = {"KTS_WORKER_IMAGE": "localhost/kts-worker:x", "KTS_EXTRA": "cpu"}
    done = kts_here("k8s", "render", "demo", **released)
    assert "image: localhost/kts-worker:x\n" in done.stdout
    assert '"device":"cpu"' in done.stdout
    assert (
        "nvidia.com/gpu"
        in kts_here("k8s", "render", "demo", "--extra", "torch", "--image", "mine:1", **released).stdout
    )
    done = kts_here("k8s", "render", "demo", "--extra", "torch", **released)
    assert done.returncode == 2
    assert "KTS_WORKER_IMAGE names localhost/kts-worker:x, which holds cpu" in errors(done)[0]
