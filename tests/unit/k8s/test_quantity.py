"""Quantities as the API server writes them: 1000 slots are ``1k``."""

from __future__ import annotations

import pytest

from kts.errors import SetupError
from kts.k8s.objects import podstate, quantity, slots
from kts.k8s.objects.settings import ClusterSettings

GPU = "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("4", 4),
        (4, 4),
        ("1k", 1000),
        ("16k", 16_000),
        ("2M", 2_000_000),
        ("1Ki", 1024),
        ("0.5Ki", 512),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1E", 10**18),
        ("3000m", 3),
        ("1500m", 2),
        ("+2", 2),
        (".5k", 500),
        ("2.", 2),
    ],
)
def test_a_quantity_is_read_as_kubernetes_reads_it(text: object, number: int) -> None:
    """Else a node with a thousand slots would end kts after it changed the cluster. A part counts as a whole one."""
    assert quantity.count(text, "slots") == number


@pytest.mark.parametrize(
    "text", ["", "k", "1K", "1 k", "1kk", "1_000", "0x4", "four", "1e999", "٤", "9" * 70, None, True]
)
def test_what_is_no_quantity_is_refused_with_its_place(text: object) -> None:
    """Else the user would see a traceback, or a number that nobody wrote."""
    with pytest.raises(SetupError, match="node n, nvidia"):
        quantity.count(text, "node n, nvidia.com/gpu")


def test_slots_and_their_holders_are_counted_in_quantities() -> None:
    """Else free slots of a large node could not be told."""
    node = {
        "metadata": {"name": "n"},
        "status": {"allocatable": {GPU: "1k"}, "conditions": [{"type": "Ready", "status": "True"}]},
    }
    pod = {
        "metadata": {"name": "p", "namespace": "x"},
        "spec": {"nodeName": "n", "containers": [{"resources": {"requests": {GPU: "0.2k"}}}, {}]},
        "status": {"phase": "Running"},
    }
    assert podstate.requested(pod, GPU) == 200
    (room,) = slots.rooms([node], [pod], ClusterSettings())
    assert (room.slots, room.used, room.free) == (1000, 200, 800)
