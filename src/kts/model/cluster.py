"""What a cluster said of a run: the part of cluster.json that a report needs. docs/formats.md lists the whole."""

from __future__ import annotations

import msgspec


class GpuProof(msgspec.Struct, frozen=True):
    """UUIDs of a tenant's GPUs, as NVML shows it to the ``worker`` and as the ``kubelet`` gave it to the pod.

    ``agree``: None where one of the two tells nothing.
    """

    worker: tuple[str, ...] = ()
    kubelet: tuple[str, ...] = ()
    agree: bool | None = None


class ContainerState(msgspec.Struct, frozen=True, rename={"image_id": "imageID"}):
    """Of a pod's container: the image's name, and the digest of what the node really ran."""

    name: str = ""
    image: str = ""
    image_id: str = ""


class PodState(msgspec.Struct, frozen=True, rename={"containers": "containerStatuses"}):
    """A pod's status."""

    containers: tuple[ContainerState, ...] = ()


class RunPod(msgspec.Struct, frozen=True):
    """A pod of the run; ``tenant`` is empty for the conductor's."""

    name: str
    tenant: str = ""
    node: str = ""
    runtime_class: str = ""
    status: PodState = PodState()


class RunNode(msgspec.Struct, frozen=True):
    """The node of the run. ``info``: versions, by the names that Kubernetes has for them."""

    name: str
    info: dict[str, str | None] = {}
    labels: dict[str, str] = {}


class ClusterFacts(msgspec.Struct, frozen=True):
    """``kubernetes``: the server's version; ``gpus``: by tenant."""

    schema: int
    kubernetes: str = ""
    gpus: dict[str, GpuProof] = {}
    pods: tuple[RunPod, ...] = ()
    node: RunNode | None = None
