"""`--dcgm auto` on a real cluster: a pod stands in for a node's dcgm-exporter, is found, asked, and replaced."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest
from tests.helpers_cli import kts
from tests.helpers_cluster import NEEDS_KUBECTL, on_a_cluster
from tests.helpers_telemetry import RECORDED, UUID
from tests.helpers_wait import until

from kts.k8s.cluster.api import Api
from kts.k8s.cluster.exporters import find, with_exporter
from kts.k8s.objects.exporters import AUTO
from kts.k8s.objects.settings import ClusterSettings
from kts.model.telemetry import Sample
from kts.telemetry.dcgm import DcgmSource

NAMESPACE = "kts-e2e-exporter"
LABELS = {"app.kubernetes.io/name": "dcgm-exporter"}
DEADLINE_S = 180.0
pytestmark = [
    *on_a_cluster(),
    NEEDS_KUBECTL,
]

ANSWERS = f"""\
import gzip, http.server, os, signal, time

class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        sm = f"{{time.monotonic() * 5 // 1 % 100 / 100:.6f}}"
        body = gzip.compress({RECORDED!r}.format(uuid={UUID!r}, other="GPU-other", sm=sm, util=97).encode())
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
http.server.ThreadingHTTPServer(("", 9400), Answer).serve_forever()
"""
"""A mean that changes every 0.2 s."""


def kubectl(*arguments: str, given: str | None = None) -> str:
    """What it prints; the test fails if it does."""
    done = subprocess.run(
        ["kubectl", *arguments], input=given, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def exporter(image: str) -> str:
    """Its pod and Service, as NVIDIA's chart labels and names them."""
    container = {
        "name": "exporter",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", ANSWERS],
        "ports": [{"name": "metrics", "containerPort": 9400}],
        "readinessProbe": {"tcpSocket": {"port": 9400}, "periodSeconds": 1},
    }
    meta = {"name": "dcgm-exporter", "namespace": NAMESPACE, "labels": LABELS}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta}
    pod |= {"spec": {"containers": [container], "terminationGracePeriodSeconds": 5}}
    ports = [{"name": "metrics", "port": 9400, "targetPort": 9400}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": LABELS, "ports": ports}}
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [pod, service]})


def put(image: str) -> None:
    """Puts it there, and waits until it answers."""
    kubectl("apply", "--filename", "-", given=exporter(image))
    kubectl("wait", "--namespace", NAMESPACE, "pod/dcgm-exporter", "--for=condition=Ready", "--timeout=180s")


@pytest.fixture
def image() -> Iterator[str]:
    """An image with Python, and a namespace with the stand-in in it."""
    built = os.environ.get("KTS_E2E_IMAGE") or kts("k8s", "image", "--extra", "cpu").stdout.strip()
    kubectl("create", "namespace", NAMESPACE)
    try:
        put(built)
        yield built
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=true")


def sampled(source: DcgmSource) -> list[Sample]:
    """Its next means."""
    found: list[Sample] = until(lambda: [sample for sample in source.sample() if sample.span_ns], "it has means")
    return found


def test_the_nodes_exporter_is_found_asked_and_read_on_after_its_pod_is_replaced(image: str) -> None:
    """Else a user would have to know its address, and its update would be the end of DCGM in a run."""
    checks = json.loads(kts("doctor", "--on", "k8s", "--dcgm", "auto", "--json").stdout)["checks"]
    (said,) = [one for one in checks if one["name"] == "DCGM exporter"]
    assert said["status"] == "ok"
    assert f"{NAMESPACE}/dcgm-exporter on node " in said["found"]
    assert UUID in said["found"]
    api = Api.connect()
    (one,) = find(api, NAMESPACE)[0]
    chosen = with_exporter(api, ClusterSettings(namespace=NAMESPACE, dcgm=AUTO, node=one.node))
    elsewhere = with_exporter(api, ClusterSettings(namespace=NAMESPACE, dcgm=AUTO, node="no-such-node"))
    api.close()
    assert chosen.dcgm.startswith(f"{one.url} http://")
    assert f"but on {one.node}" in elsewhere.dcgm_missing
    source = DcgmSource(chosen.dcgm)
    assert not source.open(UUID).missing
    sampled(source)
    kubectl("delete", "--namespace", NAMESPACE, "pod/dcgm-exporter", "--wait=true")
    source.sample()
    put(image)
    after = sampled(source)
    (gap, *_) = source.state().gaps
    assert all(sample.t_ns - sample.span_ns >= gap.end_ns for sample in after)
    source.close()
