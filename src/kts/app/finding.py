"""Looks for the dcgm-exporter of this machine's GPUs, and asks those of a cluster."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from kts.errors import KtsError
from kts.k8s.cluster.api import Api
from kts.k8s.cluster.exporters import find
from kts.k8s.cluster.forward import forwarded
from kts.k8s.objects import Object
from kts.k8s.objects.exporters import PORT, Exporter
from kts.telemetry import dcgm_values
from kts.telemetry.scrape import ExporterAddress, ScrapeError

LOCAL = f"http://localhost:{PORT}/metrics"
MACHINE_ID = Path("/etc/machine-id")


def search(uuids: Sequence[str], open_ways: ExitStack) -> tuple[str, str]:
    """(URL of the exporter that tells of one of these GPUs, why there is none).

    Asked are port 9400 here, then the exporters' pods on this machine where it is a cluster's node: at their own
    address, else through a port-forward that ends with ``open_ways``. Raises nothing.
    """
    if not uuids:
        return "", "no GPU here to ask about"
    if why := _unfit(LOCAL, uuids):
        return _of_this_node(uuids, f"{LOCAL}: {why}", open_ways)
    return LOCAL, ""


def told_through(api: Api, one: Exporter) -> tuple[Literal["ok", "note"], str]:
    """(status, what a cluster's exporter tells of) for doctor, asked through a port-forward."""
    whom = f"{one.name} on node {one.node}"
    try:
        with forwarded(api, one.namespace, one.pod, one.port) as port:
            return "ok", f"{whom} at {one.url} tells of {dcgm_values.words(_told_of(_local(one, port)))}"
    except (KtsError, ScrapeError) as error:
        return "note", f"{whom}: {error.what if isinstance(error, KtsError) else error}"


def _of_this_node(uuids: Sequence[str], tried: str, open_ways: ExitStack) -> tuple[str, str]:
    try:
        api = Api.connect()
        open_ways.callback(api.close)
        node = _this_node(api.list("Node"))
        found, where = find(api, api.namespace) if node else ([], "")
    except KtsError as error:
        return "", f"{tried}; no cluster to look in: {error.what}"
    if not node:
        return "", f"{tried}; no node of {api.server} is this machine"
    here = [one for one in found if one.node == node]
    whys = [] if here else [f"no dcgm-exporter runs on node {node} (looked in {where})"]
    for one in here:
        if not (why := _unfit(one.url, uuids)):  # a node reaches its own pods
            return one.url, ""
        whys.append(f"{one.name} at {one.url}: {why}")
        try:
            port = open_ways.enter_context(forwarded(api, one.namespace, one.pod, one.port))
        except KtsError as error:
            whys.append(f"through port-forward: {error.what}")
            continue
        if not (why := _unfit(_local(one, port), uuids)):
            return _local(one, port), ""
        whys.append(f"through port-forward: {why}")
    return "", "; ".join([tried, *whys])


def _local(one: Exporter, port: int) -> str:
    return f"{one.url.partition(':')[0]}://127.0.0.1:{port}/metrics"


def _unfit(url: str, uuids: Sequence[str]) -> str:
    """Why what is there is no exporter of one of these GPUs; empty if it is. A MIG device's UUID does not tell its
    GPU's."""
    try:
        of = _told_of(url)
    except ScrapeError as error:
        return str(error)
    if of.keys() & set(uuids) or (of and any(uuid.startswith("MIG-") for uuid in uuids)):
        return ""
    return f"it tells of {dcgm_values.words(of)}"


def _told_of(url: str) -> dict[str, dict[str, str]]:
    """See `dcgm_values.gpus`. ScrapeError."""
    endpoint = ExporterAddress(url)
    try:
        return dcgm_values.gpus(endpoint.get())
    finally:
        endpoint.close()


def _this_node(nodes: Sequence[Object]) -> str:
    """Name of the node that this machine is; empty if it is none."""
    try:
        machine = MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        machine = ""
    host = socket.gethostname()
    for node in nodes:
        meta = node["metadata"]
        info = (node.get("status") or {}).get("nodeInfo") or {}
        names = {meta["name"], (meta.get("labels") or {}).get("kubernetes.io/hostname")}
        if names & {host, host.partition(".")[0]} or (machine and info.get("machineID") == machine):
            return str(meta["name"])
    return ""
