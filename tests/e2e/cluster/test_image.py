"""`kts k8s image` on a real cluster, with a real container engine."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator

import pytest
from tests.helpers_cli import kts

from kts.k8s.cluster.api import Api
from kts.k8s.cluster.image import ENGINES

PATIENCE_S = 90.0
"""A kubelet tells of a new image within a minute or so."""
NEEDED = ("KUBECONFIG", "KTS_IMAGE_LOADER")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.e2e,
    pytest.mark.skipif(not all(map(os.environ.get, NEEDED)), reason=f"needs a cluster: {' and '.join(NEEDED)}"),
    pytest.mark.skipif(not any(map(shutil.which, ENGINES)), reason=f"needs one of {', '.join(ENGINES)}"),
]


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api.connect()
    yield api
    api.close()


def test_twice_builds_once(api: Api) -> None:
    """Else every run would begin with building and loading, and two of the same kts might not be of one image."""
    first = kts("k8s", "image", "--extra", "cpu")
    assert first.returncode == 0, first.stderr
    name = first.stdout.strip()
    assert name == kts("k8s", "image", "--extra", "cpu", "--name").stdout.strip()

    def is_everywhere() -> bool:
        nodes = api.list("Node")
        return bool(nodes) and all(
            any(name in (image.get("names") or ()) for image in node["status"].get("images") or ()) for node in nodes
        )

    deadline = time.monotonic() + PATIENCE_S
    while not is_everywhere():
        assert time.monotonic() < deadline, f"no node tells that it has {name}"
        threading.Event().wait(0.5)
    second = kts("k8s", "image", "--extra", "cpu")
    assert (second.returncode, second.stdout.strip(), second.stderr) == (0, name, "")
