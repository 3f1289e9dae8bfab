"""Where in a cluster a run took place: node, versions, image, pods, and what proves that its tenants had one GPU."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.cluster import ClusterFacts, GpuProof, RunPod
from kts.report import document as doc
from kts.report.sections.report import Report

_INFO = (
    ("kubelet", "kubeletVersion"),
    ("container runtime", "containerRuntimeVersion"),
    ("kernel", "kernelVersion"),
    ("system", "osImage"),
)
_LABELS = (("GPU product", "nvidia.com/gpu.product"), ("driver", "nvidia.com/cuda.driver-version.full"))
_DIGEST_CHARACTERS = 19
"""Of an image's digest: ``sha256:`` and twelve digits, as container tools shorten it."""


def section(report: Report) -> Iterator[doc.Element]:
    """Nothing for a run that no cluster told of."""
    facts = report.run.cluster if report.run else None
    if facts is None:
        return
    yield doc.paragraph(_in_short(facts), "quiet", media=doc.TERMINAL)
    yield doc.Heading("Where it ran", "cluster", media=doc.FILES)
    yield doc.Table(
        columns=(doc.Column("what", "name"), doc.Column("value", "name")),
        groups=(tuple(_rows(facts)),),
        caption="Node, versions and image, as the cluster told them at the end of the run.",
        media=doc.FILES,
    )
    yield doc.Table(
        columns=tuple(doc.Column(head, "name") for head in ("tenant", "pod", "GPU", "proof")),
        groups=(tuple(_pod(facts, pod) for pod in facts.pods),),
        caption="Pods, and the GPU of each: as NVML shows it to the worker, and as the kubelet says that it gave it.",
        media=doc.FILES,
    )


def _in_short(facts: ClusterFacts) -> str:
    where = f"node {facts.node.name}, " if facts.node else ""
    gpus = {uuid for proof in facts.gpus.values() for uuid in (*proof.worker, *proof.kubelet)}
    words = {proof_words(proof) for proof in facts.gpus.values()}
    proof = f": {words.pop()}" if len(words) == 1 else ": see results.md" if words else ""
    which = f"; GPU {', '.join(sorted(gpus))}{proof}" if gpus else ""
    return f"{where}Kubernetes {facts.kubernetes or 'of unknown version'}{which}"


def proof_words(proof: GpuProof) -> str:
    """What is proven of a tenant's GPU, and by whom."""
    if proof.agree is not None:
        return "worker and kubelet agree" if proof.agree else "NOT PROVEN: worker and kubelet name different GPUs"
    if proof.worker or proof.kubelet:
        return f"by the {'worker' if proof.worker else 'kubelet'} alone"
    return "not proven: neither worker nor kubelet tells"


def _rows(facts: ClusterFacts) -> Iterator[doc.Row]:
    yield "Kubernetes", facts.kubernetes or "unknown"
    if facts.node:
        yield "node", facts.node.name
        yield from ((name, value) for name, key in _INFO if (value := facts.node.info.get(key)))
        yield from ((name, value) for name, key in _LABELS if (value := facts.node.labels.get(key)))
    for name, digest in _images(facts):
        yield "image", f"{name} ({digest})" if digest else name
    classes = sorted({pod.runtime_class for pod in facts.pods if pod.runtime_class})
    yield "RuntimeClass", ", ".join(classes) or "none asked: the cluster's default"


def _images(facts: ClusterFacts) -> list[tuple[str, str]]:
    """(name, short digest), each once."""
    every = ((one.image, one.image_id.rpartition("@")[2]) for pod in facts.pods for one in pod.status.containers)
    return sorted({(name, digest[:_DIGEST_CHARACTERS]) for name, digest in every if name})


def _pod(facts: ClusterFacts, pod: RunPod) -> doc.Row:
    if not pod.tenant:
        return "(conductor)", pod.name, doc.NOTHING, doc.NOTHING
    proof = facts.gpus.get(pod.tenant, GpuProof())
    gpus = ", ".join(sorted({*proof.worker, *proof.kubelet}))
    return pod.tenant, pod.name, gpus or doc.NOTHING, proof_words(proof)
