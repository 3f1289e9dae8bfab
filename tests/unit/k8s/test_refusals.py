"""Who refused, by the server's words: a wrong remedy sends a user to the wrong person, as one for all of them did.

The messages are those of Kubernetes 1.34.2, as a cluster gave them; the last ones are of OpenShift and of clouds.
"""

from __future__ import annotations

import pytest

from kts.errors import SetupError
from kts.k8s.cluster.api import Conflict, Forbidden, Missing, NotYet, Refused, Unavailable, _error
from kts.k8s.objects.refusals import refusal

POST = "POST /api/v1/namespaces/team/pods"
POD = 'pods "kts-r1-t0-" is forbidden: '
CONDUCTOR = 'pods "kts-r1-conductor" is forbidden: '
NOBODY = 'User "system:serviceaccount:team:nobody" cannot '

REFUSED: dict[str, tuple[int, str, type[SetupError], tuple[str, ...]]] = {
    "right of the Role": (
        403,
        f'pods is forbidden: {NOBODY}create resource "pods" in API group "" in the namespace "team"',
        Forbidden,
        ("deploy/rbac.yaml grants it", "--namespace team"),
    ),
    "right of the ClusterRole": (
        403,
        f'nodes is forbidden: {NOBODY}list resource "nodes" in API group "" at the cluster scope',
        Forbidden,
        ("deploy/rbac.yaml grants it",),
    ),
    "right that no run needs": (
        403,
        f'configmaps "plugin" is forbidden: {NOBODY}patch resource "configmaps" in API group "" in the namespace "gpu"',
        Forbidden,
        ("deploy/rbac.yaml does not grant it", "administrator"),
    ),
    "right to be another": (
        403,
        f'users "ci" is forbidden: {NOBODY}impersonate resource "users" in API group "" at the cluster scope',
        Forbidden,
        ("deploy/rbac.yaml does not grant it",),
    ),
    "a cloud's own right": (
        403,
        'jobs.batch is forbidden: User "me@example.com" cannot create resource "jobs" in API group "batch" in the '
        'namespace "team": requires one of ["container.jobs.create"] permission(s).',
        Forbidden,
        ("deploy/rbac.yaml grants it",),
    ),
    "a proxy in front of the server": (403, "blocked by the gateway", Forbidden, ("kts doctor --on k8s",)),
    "quota of GPUs": (
        403,
        f"{POD}exceeded quota: gpu, requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=0, "
        "limited: requests.nvidia.com/gpu=0",
        Refused,
        ("run fewer tenants", "kubectl describe resourcequota gpu --namespace team"),
    ),
    "quota of memory": (
        403,
        f"{POD}exceeded quota: mem, requested: requests.memory=512Mi, used: requests.memory=1Gi, "
        "limited: requests.memory=1Gi",
        Refused,
        ("--pod-memory", "resourcequota mem"),
    ),
    "quota of objects": (
        403,
        'configmaps "c1" is forbidden: exceeded quota: cpu, requested: count/configmaps=1, used: count/configmaps=1, '
        "limited: count/configmaps=1",
        Refused,
        ("kubectl describe resourcequota cpu",),
    ),
    "quota that wants a limit of a tenant": (
        403,
        f"{POD}failed quota: cpu: must specify limits.cpu for: worker",
        Refused,
        ("--pod-cpu",),
    ),
    "quota that wants a limit of the conductor": (
        403,
        f"{CONDUCTOR}failed quota: cpu: must specify limits.cpu for: conductor",
        Refused,
        ("--pod-template", "{name: conductor, resources: {limits: {cpu: ...}}}"),
    ),
    "quota that is not counted": (
        403,
        f"{POD}status unknown for quota: gpu, resources: requests.nvidia.com/gpu",
        NotYet,
        ("wait a moment",),
    ),
    "quota that two write": (
        409,
        'Operation cannot be fulfilled on resourcequotas "gpu": the object has been modified; please apply your '
        "changes to the latest version and try again",
        NotYet,
        ("wait a moment",),
    ),
    "limit range": (
        403,
        f"{POD}[maximum memory usage per Container is 256Mi, but limit is 512Mi, cpu max limit to request ratio per "
        "Container is 1, but no limit is specified or limit is 0]",
        Refused,
        ("--pod-cpu and --pod-memory", "kubectl describe limitrange --namespace team"),
    ),
    "limit range, the conductor": (
        403,
        f"{CONDUCTOR}minimum cpu usage per Pod is 500m, but request is 100m",
        Refused,
        ("--pod-template", "conductor"),
    ),
    "namespace that goes away": (
        403,
        f"{POD}unable to create new content in namespace team because it is being terminated",
        Refused,
        ("wait until the namespace is gone", "--namespace"),
    ),
    "namespace that is not there": (404, 'namespaces "team" not found', Missing, ("kubectl create namespace team",)),
    "Pod Security": (
        403,
        f'{POD}violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "x" must set '
        "securityContext.allowPrivilegeEscalation=false)",
        Refused,
        ("--pod-template", "meet every level"),
    ),
    "policy": (
        422,
        f"{POD}ValidatingAdmissionPolicy 'costs' with binding 'costs-team' denied request: needs a cost centre",
        Refused,
        ("--pod-template", "validatingadmissionpolicy costs"),
    ),
    "policy that answers 401": (
        401,
        f"{POD}ValidatingAdmissionPolicy 'costs' with binding 'costs-team' denied request: needs a cost centre",
        Refused,
        ("validatingadmissionpolicy costs",),
    ),
    "webhook": (
        400,
        'admission webhook "validate.kyverno.svc-fail" denied the request: \n\nresource Pod/team/kts was blocked due '
        "to the following policies\n\nrequire-labels:\n  team: 'validation error'\n",
        Refused,
        ("--pod-template", "validatingwebhookconfiguration"),
    ),
    "webhook that answers 500": (
        500,
        'admission webhook "guard.example.com" denied the request: no',
        Refused,
        ("--pod-template",),
    ),
    "webhook that is down": (
        500,
        'Internal error occurred: failed calling webhook "deny.example.com": failed to call webhook: Post '
        '"https://127.0.0.1:9/deny?timeout=3s": dial tcp 127.0.0.1:9: connect: connection refused',
        Unavailable,
        ("mend the webhook", "namespace team"),
    ),
    "runtime class": (
        403,
        f'{POD}pod rejected: RuntimeClass "no-such" not found',
        Refused,
        ("--runtime-class ''",),
    ),
    "priority class": (403, f"{POD}no PriorityClass with name no-such was found", Refused, ("--pod-template",)),
    "service account": (
        403,
        f'{POD}error looking up service account team/default: serviceaccount "default" not found',
        NotYet,
        ("kubectl create serviceaccount default -n team",),
    ),
    "field": (
        422,
        'Pod "p" is invalid: spec.containers[0].resources.requests: Invalid value: "2Gi": must be less than or equal '
        "to memory limit of 1Gi",
        Refused,
        ("spec.containers[0].resources.requests", "--pod-template"),
    ),
    "OpenShift": (
        403,
        f"{POD}unable to validate against any security context constraint: [provider restricted-v2: ...]",
        Refused,
        ("nonroot-v2", "-n team"),
    ),
    "something that is there already": (409, 'pods "p" already exists', Conflict, ("another name",)),
    "too many requests": (429, "the server has received too many requests", Unavailable, ("try again",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_each_refusal_comes_with_its_own_remedy_and_the_servers_words(case: str) -> None:
    """Else a full quota would be blamed on rbac.yaml, which grants everything already."""
    code, message, kind, remedies = REFUSED[case]
    error = _error(code, POST, message)
    assert type(error) is kind
    assert message in error.what
    assert [part for part in remedies if part not in error.remedy] == []
    assert ("rbac.yaml" in error.remedy) == ("right" in case)


@pytest.mark.parametrize("case", REFUSED)
def test_a_jobs_event_is_read_as_the_servers_answer_is(case: str) -> None:
    """Else the same refusal would have a remedy where kts makes the pod, and none where a Job does."""
    _, message, _, remedies = REFUSED[case]
    found = refusal(f"Error creating: {message}", "team")
    if found is not None:
        assert [part for part in remedies if part not in found.remedy] == []


@pytest.mark.parametrize(
    ("refused", "remedy"),
    [
        ('secrets "kts-r1" is forbidden', "ask its owner for an exception; kubectl get"),
        ('services "kts-r1" is forbidden', "ask its owner for an exception; kubectl get"),
        ('jobs.batch "kts-r1-t0" is forbidden', "meet it with --image or --pod-template, or ask"),
    ],
)
def test_a_policy_is_met_by_what_shapes_the_object_that_it_is_of(refused: str, remedy: str) -> None:
    """Else who is refused a Secret would look for it in a pod template."""
    said = "ValidatingAdmissionPolicy 'p' with binding 'p' denied request: images come from registry.corp"
    found = refusal(f"{refused}: {said}", "team")
    assert found is not None
    assert found.remedy.startswith(remedy)


def test_what_refuses_nothing_is_not_explained() -> None:
    """Else a remedy would be given that has nothing to do with what happened."""
    assert refusal("Created pod: kts-r1-t0-x") is None
    assert refusal("") is None
