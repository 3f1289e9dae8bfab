"""Where and how a run is placed on a cluster: what the user may choose, and nothing about the experiment."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from kts.k8s.objects.names import DEFAULT_IMAGE, DEFAULT_JOIN_S, DEFAULT_KEEP_S, DEFAULT_NAMESPACE

Extra = Literal["cpu", "torch", "cupy"]
PullPolicyName = Literal["Never", "IfNotPresent", "Always"]


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The user's choices.

    ``node``: name of the one node to use; empty: the scheduler chooses. ``resource``: what one tenant asks one
    of; empty: none (no device plugin, or a claim). ``claim``: name of a DRA ResourceClaim that all tenants share, in
    place of ``resource``. ``runtime_class`` empty: the cluster's default; None: ``nvidia``, and none on a cluster that
    is seen to lack it. ``pod_template``: merged into every pod (strategic merge for containers by name). ``keep_s``:
    how long the conductor's pod waits for its results to be fetched. ``create_namespace``: render the Namespace too.
    ``telemetry``: the conductor's pod samples, and on a GPU asks to see NVML; ``dcgm``: URL of a dcgm-exporter that it
    scrapes, too, or ``auto`` until the run's node is known; ``dcgm_missing``: why that found none. ``service_account``:
    with whose rights the conductor's pod looks at the pods of its node; empty: it has no token, and does not look.
    ``mode``: in which the node or the claim must be set to share; empty: in whichever it is.
    ``egress``: NetworkPolicies of the namespace isolate the run's pods, so that they need rules of their own.
    """

    namespace: str = DEFAULT_NAMESPACE
    create_namespace: bool = True
    image: str = DEFAULT_IMAGE
    pull_policy: PullPolicyName = "Never"
    runtime_class: str | None = None
    resource: str = "nvidia.com/gpu"
    claim: str = ""
    node: str = ""
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, Any], ...] = ()
    cpu: str = ""
    """CPUs of a tenant's pod, limit and request; empty: 1 whole CPU on a GPU, a small request without limit on device
    cpu (a limit would be enforced by throttling, which looks like sharing)."""
    memory: str = ""
    pod_template: dict[str, Any] = {}
    keep_s: int = DEFAULT_KEEP_S
    join_s: int = DEFAULT_JOIN_S
    wait_s: int = 0
    """How long pods may lack a place before that ends the run."""
    telemetry: bool = True
    dcgm: str = ""
    dcgm_missing: str = ""
    service_account: str = ""
    egress: bool = False
    mode: str = ""
