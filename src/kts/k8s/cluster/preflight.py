"""Whether a run could start on a cluster, looked at before anything is created there. Changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from kts.errors import SetupError
from kts.k8s.cluster import asked
from kts.k8s.cluster.api import Api, Forbidden
from kts.k8s.cluster.image import names_on
from kts.k8s.cluster.rehearsal import rehearse
from kts.k8s.objects import Object, offers, slots, taints
from kts.k8s.objects.names import DEFAULT_IMAGE, DEFAULT_NAMESPACE, DEFAULT_REPOSITORY
from kts.k8s.objects.needs import UNKNOWN, Need
from kts.k8s.objects.permissions import HELPFUL, NEEDED, RBAC, Permission
from kts.k8s.objects.settings import ClusterSettings
from kts.model.plan import Plan
from kts.shown import visible

OLDEST = (1, 31)
"""The oldest Kubernetes that is supported."""
TORCH_COMPUTE, TORCH_DRIVER = (7, 5), 580
"""What the pinned torch needs: CUDA 13 knows no GPU before Turing, and no driver before 580."""
POD_SECURITY = "pod-security.kubernetes.io/enforce"
ONE_GPU = (
    "use a node with one GPU (--node), or device plugin 0.20 or newer with sharedDevicesAllocationPolicy: packed, "
    "or a DRA claim that the tenants share (--claim)"
)


def check(api: Api, settings: ClusterSettings, wanted: int, plan: Plan) -> list[Need]:
    """Everything that a run of ``wanted`` tenants needs; it can start unless one is missing.

    ``plan``: of such a run, or of one with fewer tenants of the same kind.

    What may not be read is a note that says so. Unavailable, or another SetupError, if the server stops to answer.
    """
    try:
        version, user = api.version(), api.user()
    except SetupError as error:
        return [Need("API server", "missing", error.what, error.remedy)]
    nodes = _readable(lambda: api.list("Node"))
    pods = _readable(lambda: api.list("Pod"))
    named, runtime_class = asked.chosen_runtime_class(api, settings)
    admitted = [
        *_permissions(api, settings.namespace),
        _namespace(api, settings),
        asked.quota(api, settings.namespace, asked.of_tenants(wanted, plan, named)),
        runtime_class,
    ]
    return [
        _version(f"{api.server}, Kubernetes {version}{f', as {visible(user)}' if user else ''}", version),
        *admitted,
        *(rehearse(api, plan, named) if can_start(admitted) else ()),
        *_places(nodes, pods, settings, wanted),
        *asked.claim(api, settings),
    ]


def can_start(checks: Sequence[Need]) -> bool:
    """True if nothing that a run needs is missing."""
    return all(one.status != "missing" for one in checks)


def _readable(read: Callable[[], list[Object]]) -> list[Object] | None:
    """What ``read`` gives; None if this user may not."""
    try:
        return read()
    except Forbidden:
        return None


def _version(found: str, version: str) -> Need:
    match = re.match(r"v?(\d+)\.(\d+)", version)
    if match and (int(match[1]), int(match[2])) >= OLDEST:
        return Need("API server", "ok", found)
    oldest = ".".join(map(str, OLDEST))
    return Need("API server", "note", f"{found}: not tried", f"Kubernetes {oldest} or newer is supported")


def _permissions(api: Api, namespace: str) -> list[Need]:
    try:
        lacking = [(one, _refused(api, one, namespace)) for one in NEEDED]
        unseen = [(one, loss) for one, loss in HELPFUL if _refused(api, one, "")]
    except Forbidden:
        return [Need("permissions", "note", UNKNOWN, "kubectl auth can-i --list")]
    missing = [one.words(verbs) for one, verbs in lacking if verbs]
    if missing:
        found = f"in namespace {namespace} you may not: {'; '.join(missing)}"
        first = Need("permissions", "missing", found, _granting(namespace))
    else:
        first = Need("permissions", "ok", f"all that a run needs in namespace {namespace}")
    notes = [
        Need("permissions", "note", f"in the whole cluster you may not {one.words(one.verbs)}: {loss}", RBAC)
        for one, loss in unseen
    ]
    return [first, *notes]


def _granting(namespace: str) -> str:
    """How an administrator grants it in that namespace."""
    return RBAC if namespace == DEFAULT_NAMESPACE else f"{RBAC}, with namespace {namespace} in it"


def _refused(api: Api, one: Permission, namespace: str) -> list[str]:
    """The verbs that are not allowed."""
    return [v for v in one.verbs if not api.allowed(v, one.group, one.resource, namespace, one.subresource)]


def _namespace(api: Api, settings: ClusterSettings) -> Need:
    name = settings.namespace
    try:
        found = api.get("Namespace", name)
        creatable = found is None and settings.create_namespace and api.allowed("create", "", "namespaces")
    except Forbidden:
        return Need("namespace", "note", f"{name}: {UNKNOWN}", RBAC)
    if found is None:
        create = f"kubectl create namespace {name}"
        if creatable:
            return Need("namespace", "ok", f"{name} is not there; a run creates it")
        return Need("namespace", "missing", f"{name} is not there, and a run may not create it", create)
    if (found.get("status") or {}).get("phase") == "Terminating":
        return Need("namespace", "missing", f"{name} is being deleted", "wait until it is gone, or choose --namespace")
    level = _labels(found).get(POD_SECURITY)
    if level is None:
        return Need("namespace", "ok", f"{name}; it enforces no Pod Security level of its own")
    return Need("namespace", "ok", f"{name} enforces Pod Security level {level}; pods of a run meet all levels")


def _places(
    nodes: Sequence[Object] | None, pods: Sequence[Object] | None, settings: ClusterSettings, wanted: int
) -> list[Need]:
    """Node, slots, sharing and image."""
    if nodes is None:
        unseen = [Need(name, "note", UNKNOWN, RBAC) for name in ("node", "slots", "sharing")]
        must = "; kts run needs --image, since it cannot see whether to load one"
        found = UNKNOWN + (must if settings.image == DEFAULT_IMAGE else "")
        return [*unseen, Need("image", "note", found, RBAC)]
    rooms = slots.rooms(nodes, pods or [], settings)
    offering = [room for room in rooms if room.slots or not settings.resource]
    if not offering:
        try:
            slots.choose(rooms, wanted, settings, nodes)
        except SetupError as error:
            return [Need("node", "missing", error.what, error.remedy)]
    by_name = {node["metadata"]["name"]: node for node in nodes}
    chosen = by_name[offering[0].node]
    offer = f" with {settings.resource}" if settings.resource else ""
    ready = Need("node", "ok", f"Ready{offer}: {', '.join(room.node for room in offering)}")
    return [
        ready,
        *_taints(chosen, settings),
        _slots(offering, settings, wanted, all_pods_seen=pods is not None),
        _sharing(chosen, settings.resource) if settings.resource else _unshared(settings),
        *_gpu(chosen, settings),
        _image(chosen, settings),
    ]


def _taints(node: Object, settings: ClusterSettings) -> list[Need]:
    """A note if pods of a run do not tolerate the node; some clusters add what GPUs need by themselves."""
    if not (left := taints.untolerated(node, settings)):
        return []
    found = f"{node['metadata']['name']} has the taint {', '.join(left)}, which the run does not tolerate"
    return [Need("node", "note", found, " ".join(f"--toleration {taint}" for taint in left))]


def _slots(found: Sequence[slots.Room], settings: ClusterSettings, wanted: int, *, all_pods_seen: bool) -> Need:
    if not settings.resource:
        how = f"claim {settings.claim}" if settings.claim else "no resource is asked for"
        return Need("slots", "ok", f"{how}: tenants take no slots")
    try:
        node = slots.choose(found, wanted, settings)
    except SetupError as error:
        return Need("slots", "missing", error.what, error.remedy)
    room = next(room for room in found if room.node == node)
    if not all_pods_seen:
        return Need("slots", "note", f"node {node} offers {room.slots}; in use {UNKNOWN}", RBAC)
    return Need("slots", "ok", f"{room.words()}; {wanted} wanted")


def _sharing(node: Object, resource: str) -> Need:
    """What the plugin's labels say of how a GPU is shared."""
    name, told, maker = node["metadata"]["name"], offers.told(node, resource), offers.of_node(node)
    by = f" ({maker.who})" if maker else ""
    if not (told.strategy or told.replicas or told.count):
        discovery = "install NVIDIA's GPU feature discovery; a run proves by itself which GPU each tenant had"
        return Need("sharing", "note", f"unknown: node {name} has no labels that tell{by}", discovery)
    things = "MIG device" if "/mig-" in resource else "GPU"
    found = f"node {name}{by}: {told.strategy or 'strategy not told'}, {told.replicas or 'unknown'} slots per {things}"
    found += (
        f", {told.count} {things}{'' if told.count == '1' else 's'}"
        if told.count
        else f", number of {things}s not told"
    )
    if told.count.isascii() and told.count.isdecimal() and int(told.count) > 1:
        return Need("sharing", "note", f"{found}: tenants may land on different {things}s", ONE_GPU)
    if told.strategy == "none" or told.replicas == "1":
        more = f"offer more slots, {maker.setting}" if maker else "kts k8s time-slicing --replicas 4"
        return Need("sharing", "note", f"{found}: not shared", more)
    if told.strategy == "mps":
        return Need("sharing", "note", f"{found}: by MPS, so that tenants run at once and not in turns")
    return Need("sharing", "ok" if told.count and told.strategy and told.replicas else "note", found)


def _gpu(node: Object, settings: ClusterSettings) -> list[Need]:
    """Which GPU it is, as far as labels tell, and whether kts's own image can compute on it by torch."""
    labels = _labels(node)
    compute = tuple(labels.get(f"nvidia.com/gpu.compute.{part}", "") for part in ("major", "minor"))
    driver = labels.get("nvidia.com/cuda.driver-version.major", labels.get("nvidia.com/cuda.driver.major", ""))
    if not all(text.isdecimal() for text in (*compute, driver)):
        return []
    product = labels.get("nvidia.com/gpu.product", "a GPU")
    found = f"{product}, compute capability {'.'.join(compute)}, driver {driver}"
    fits = tuple(map(int, compute)) >= TORCH_COMPUTE and int(driver) >= TORCH_DRIVER
    if fits or settings.image != DEFAULT_IMAGE:
        return [Need("GPU", "ok", found)]
    needs = (
        f"torch in kts's image needs compute capability {'.'.join(map(str, TORCH_COMPUTE))} and driver {TORCH_DRIVER}"
    )
    return [Need("GPU", "note", f"{found}: {needs}", "kts run --extra cupy has CUDA 12; or give an image: --image")]


def _unshared(settings: ClusterSettings) -> Need:
    """Where tenants ask for no slots of a plugin."""
    if settings.claim:
        return Need("sharing", "ok", f"all tenants share claim {settings.claim}")
    return Need("sharing", "note", "no resource is asked for: which GPU a tenant gets is not arranged")


def _image(node: Object, settings: ClusterSettings) -> Need:
    """A note at most: a run builds or pulls what is not there, and a kubelet tells only some images."""
    name = node["metadata"]["name"]
    images = names_on(node)
    if settings.image in images:
        return Need("image", "ok", f"{settings.image} is on node {name}")
    found = f"{settings.image} is not among the {len(images)} image names that node {name} tells"
    built = sorted(known for known in images if known.startswith(f"{DEFAULT_REPOSITORY}:"))
    if settings.image == DEFAULT_IMAGE and built:
        found = f"on node {name}: {', '.join(built)}; whether one is of this very kts is seen when a run starts"
    return Need("image", "note", found, "kts k8s image builds and loads it; so does kts run unless --image is given")


def _labels(obj: Object) -> dict[str, str]:
    return dict(obj["metadata"].get("labels") or {})
