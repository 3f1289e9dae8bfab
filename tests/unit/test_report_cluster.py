"""What a report says of the cluster in which a run took place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.helpers_report import FakeRun, summary, terminal_text

from kts.k8s.follow import evidence
from kts.model.cluster import ClusterFacts, GpuProof
from kts.report import markdown
from kts.report.sections import run_document
from kts.report.sections.cluster import proof_words
from kts.store import layout, open_run

GPU = "GPU-11111111-2222-3333-4444-555555555555"
RESULTS = Path(__file__).parents[2] / "examples" / "results"


def pod(name: str, tenant: str) -> dict[str, Any]:
    """A pod as the API server has it."""
    image = "localhost/kts-worker:abc"
    return {
        "metadata": {"name": name, "labels": {"kts.dev/tenant": tenant} if tenant else {}},
        "spec": {"nodeName": "gpu-7", "runtimeClassName": "nvidia", "containers": [{"name": "c", "image": image}]},
        "status": {"containerStatuses": [{"name": "c", "image": image, "imageID": f"{image}@sha256:{'ab' * 32}"}]},
    }


def facts(**proofs: dict[str, Any]) -> ClusterFacts:
    """What cluster.json of a run of two tenants holds, by way of the file's own text."""
    told = evidence.describe(
        version="v1.34.2",
        reached_by="",
        altered={},
        pods=[pod("kts-x-conductor", ""), pod("kts-x-fft-1", "fft"), pod("kts-x-gemm-1", "gemm")],
        node={
            "metadata": {"name": "gpu-7", "labels": {"nvidia.com/gpu.product": "NVIDIA-H200-SHARED"}},
            "status": {"nodeInfo": {"kubeletVersion": "v1.34.2", "containerRuntimeVersion": "containerd://1.6.20"}},
        },
        events=[],
        proven=proofs,
        times={},
    )
    return msgspec.json.decode(msgspec.json.encode(told), type=ClusterFacts)


def proof(agree: bool | None = True, worker: tuple[str, ...] = (GPU,)) -> dict[str, Any]:
    """Of one tenant."""
    return {"worker": list(worker), "kubelet": [GPU], "agree": agree}


def test_the_report_names_node_versions_image_pods_and_the_gpu_with_its_proof() -> None:
    """Else a figure from a cluster could not be traced to the machine, the image and the device it is of."""
    run = FakeRun()
    run.cluster = facts(fft=proof(), gemm=proof())
    document = run_document(summary(), run)
    text = markdown.render(document)
    for said in (
        "gpu-7",
        "v1.34.2",
        "containerd://1.6.20",
        "localhost/kts-worker:abc (sha256:abababababab)",
        "NVIDIA-H200-SHARED",
        "kts-x-conductor",
        f"| fft | kts-x-fft-1 | {GPU} | worker and kubelet agree |",
    ):
        assert said in text, said
    assert f"node gpu-7, Kubernetes v1.34.2; GPU {GPU}: worker and kubelet agree" in " ".join(
        terminal_text(document, 200).split()
    )


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (GpuProof(worker=(GPU,), kubelet=(GPU,), agree=True), "worker and kubelet agree"),
        (GpuProof(worker=(GPU,), kubelet=("GPU-2",), agree=False), "NOT PROVEN"),
        (GpuProof(worker=(GPU,)), "by the worker alone"),
        (GpuProof(kubelet=(GPU,)), "by the kubelet alone"),
        (GpuProof(), "not proven: neither"),
    ],
)
def test_a_proof_says_whose_it_is(told: GpuProof, words: str) -> None:
    """Else one source's word would pass as proof by two."""
    assert words in proof_words(told)


def test_a_run_outside_a_cluster_says_nothing_of_one() -> None:
    """Else every local report would have an empty table."""
    assert "Where it ran" not in markdown.render(run_document(summary(), FakeRun()))


def test_recorded_runs_tell_where_they_ran() -> None:
    """Else runs of an older kts would lose it."""
    cluster = open_run(RESULTS / "h200-k8s-fast-7").cluster
    assert cluster is not None
    assert cluster.node is not None
    assert cluster.gpus["fft"].agree is True
    assert open_run(RESULTS / "h200-fast-7").cluster is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": "x"}', b"\xff", b'{"schema":1,"pods":[{}]}'])
def test_a_damaged_file_is_named_and_costs_no_figure(content: bytes, tmp_path: Path) -> None:
    """Else a torn cluster.json would cost the report of sound records."""
    for file in (RESULTS / "h200-k8s-fast-7").iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / layout.CLUSTER).write_bytes(content)
    run = open_run(tmp_path)
    assert run.cluster is None
    assert [line for line in run.damage if layout.CLUSTER in line]
    assert run.blocks


def test_overwriting_a_run_takes_what_its_cluster_told_away() -> None:
    """Else a local run would be reported as one of the cluster that the directory held before."""
    assert layout.CLUSTER in layout.REPLACEABLE
