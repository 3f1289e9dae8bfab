"""Fleet directories whose runs are drawn instead of measured, so that the truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kts.model.fleet import Fleet, FleetNode
from kts.store import fleetfile
from tests.helpers_cli import record

GPU = "NVIDIA H200"


def fleet(nodes: Sequence[FleetNode]) -> Fleet:
    """A fleet.json."""
    return Fleet(
        id="fleet-1", kts="0.1.0", experiment="tiny", selector="pool=gpu", namespace="kts", created_ns=1,
        nodes=tuple(nodes),
    )  # fmt: skip


def recorded(
    directory: Path,
    nodes: Mapping[str, Mapping[str, float]],
    others: Sequence[FleetNode] = (),
    gpus: Mapping[str, str] | None = None,
) -> Path:
    """A fleet directory: nodes with their factors (`record`), and ``others`` that have no run."""
    for k, (node, factors) in enumerate(nodes.items()):
        gpu = (gpus or {}).get(node, GPU)
        record(directory / "nodes" / node, seed=k, gpu=gpu, driver="580.1", **factors)  # type: ignore[arg-type]
    there = [FleetNode(node=node, state="complete", has_run=True) for node in nodes]
    fleetfile.write(directory, fleet([*there, *others]))
    return directory
