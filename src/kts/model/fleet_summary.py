"""The figures of a fleet by node: the content of fleet-summary.json. See docs/formats.md."""

from __future__ import annotations

import msgspec

from kts.model.summary import Estimate

FLEET_SUMMARY_VERSION = 1
FEWEST = 4
"""Nodes with a figure, below which none is called an outlier."""


class Hardware(msgspec.Struct, frozen=True, kw_only=True):
    """What a run knows of its node's device. ``gpus``: how many devices its workers named. ``sm_mhz``, ``memory_mhz``:
    mean clocks while the tenants were together. ``slice_ms``: of the fingerprint that is kept of this very device."""

    name: str
    driver: str = ""
    gpus: int = 1
    mode: str = ""
    sm_mhz: float | None = None
    memory_mhz: float | None = None
    slice_ms: Estimate | None = None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant on one node, on the headline clock: milliseconds, and ratios."""

    tenant: str
    solo_p99: Estimate
    df99: Estimate
    device_df99: Estimate


class NodeSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One node. ``device`` and ``tenants`` are absent where its run has no figures; ``why`` says so."""

    node: str
    state: str
    reason: str = ""
    remedy: str = ""
    device: Hardware | None = None
    tenants: tuple[Measured, ...] = ()
    why: str = ""


class OverNodes(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one tenant over the nodes of one GPU model. ``figure``: solo-p99 or df99.

    ``median``, ``lo``, ``hi``: of the nodes, and where a node begins to be an outlier. None where nobody can be named:
    ``refused`` says why. ``nodes``: how many have the figure.
    """

    gpu: str
    tenant: str
    figure: str
    nodes: int
    median: float | None = None
    lo: float | None = None
    hi: float | None = None
    outliers: tuple[str, ...] = ()
    refused: str = ""


class FleetSummary(msgspec.Struct, frozen=True, kw_only=True):
    """fleet-summary.json."""

    schema: int = FLEET_SUMMARY_VERSION
    id: str
    experiment: str
    selector: str
    outcome: str
    confidence: float
    headline_clock: str
    nodes: tuple[NodeSummary, ...]
    bands: tuple[OverNodes, ...]
    notes: tuple[str, ...] = ()

    @property
    def outliers(self) -> tuple[tuple[str, OverNodes], ...]:
        """(node, where it is unlike the others), by node."""
        return tuple(sorted(((node, band) for band in self.bands for node in band.outliers), key=lambda one: one[0]))
