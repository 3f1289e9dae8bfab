"""Names that all parts agree on. Imports nothing, so that the command line can show its defaults at once."""

from __future__ import annotations

DEFAULT_NAMESPACE = "kts"
DEFAULT_REPOSITORY = "localhost/kts-worker"
DEFAULT_IMAGE = f"{DEFAULT_REPOSITORY}:v1"
FULL_REPOSITORY = "localhost/kts"
"""Of the image that holds the whole kts."""

ENV_WORKER_IMAGE, ENV_EXTRA = "KTS_WORKER_IMAGE", "KTS_EXTRA"
"""Defaults of ``--image`` and ``--extra``; the image of the whole kts sets both to its worker."""

CONDUCTOR_ACCOUNT = "kts-conductor"
"""With whose rights a conductor's pod lists the pods of its node, where deploy/rbac.yaml made it."""

DEFAULT_JOIN_S = 300
DEFAULT_KEEP_S = 3600

LABEL_RUN = "kts.dev/run"
LABEL_TENANT = "kts.dev/tenant"
LABEL_ROLE = "kts.dev/role"
"""``owner``, ``conductor`` or ``tenant``; of a fleet ``fleet``, its owner, and ``member``."""
LABEL_BLOCK = "kts.dev/block"
"""Of a Job of the classic design: the block's index."""
LABEL_JOB = "batch.kubernetes.io/job-name"
"""Which Job made a pod, as Kubernetes says it."""
LABEL_APP = "app.kubernetes.io/name"
APP = "kts"
"""Value of `LABEL_APP` on every object that kts makes."""

ANNOTATION_CREATED = "kts.dev/created"
ANNOTATION_EXPERIMENT = "kts.dev/experiment"
ANNOTATION_VERSION = "kts.dev/version"
ANNOTATION_BLOCKS = "kts.dev/blocks"
"""On the owner of a run in the classic design: how many blocks it has."""

ENVIRONMENT_RUN = "kubernetes_run"
"""Name in run.json's environment under which the run's ID is kept."""

WORKER_PORT = 7077
STATUS_PORT = 7078
LABEL_INDEX = "batch.kubernetes.io/job-completion-index"
"""Which index of an Indexed Job a pod is for, as Kubernetes says it, in an annotation, and from 1.28 on in a label."""
LABEL_QUEUE = "kueue.x-k8s.io/queue-name"
"""On a Job: Kueue admits it from that LocalQueue."""
SERVICE_ACCOUNT = "kts"
"""As whom a fleet's pods run kts."""

TOKEN_HEADER = "X-Kts-Token"

GPU = "nvidia.com/gpu"
"""The resource that NVIDIA's device plugin offers."""
SHARED = ".shared"
"""What it puts behind that name if it is told to (``renameByDefault``)."""

DEFAULT_WATCH_NAMESPACE = "kts-watch"
WATCH = "kts-watch"
"""Name of everything that `kts k8s watch` makes."""
WATCH_PORT = 9478
ENV_NODE, ENV_HOST_IP = "KTS_NODE", "KTS_HOST_IP"
ENV_TRACEFS = "KTS_TRACEFS"
ENV_NAMES, ENV_KUBELET_CA = "KTS_NAMES", "KTS_KUBELET_CA"
"""Who tells what containers are called, one of `NAMES_BY`; whose certificate must vouch for the kubelet's: by default
the cluster's, and nobody's where it is empty."""
NAMES_BY = ("files", "kubelet", "none")
