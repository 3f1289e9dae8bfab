"""Did all tenants share one GPU, and was it in order?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kts.model.checks import Check
from kts.model.mode import MIG
from kts.model.reading import RunData
from kts.model.run import RunInfo
from kts.stats import neighbours
from kts.stats.checks.told import count, failed, not_applicable, passed

if TYPE_CHECKING:
    from kts.stats.gathering import Gathered

CODE = "same-gpu"
XID = "xid_code"
"""The metric whose samples are errors of the GPU."""


def of_run(run: RunData, gathered: Gathered) -> Iterator[Check]:
    """By the UUIDs that the workers read from their driver, and the GPUs that their containers were given."""
    info = run.info
    ill = [*_unhealthy(run), *_xids(run, gathered)]
    yield from ill
    cpu = [worker.device.label for worker in info.workers if worker.device.kind == "cpu"]
    if parts := _parts(info):
        yield passed(CODE, ", ".join(parts.values()), f"Each tenant had a MIG device of its own: {_told(parts)}.")
    elif where := _places(info):
        text = f"The tenants were not on one device: {where}. Nothing here says what sharing one GPU costs."
        if info.plan.allow_different_gpus:
            text = f"{text} The run was allowed that."
        else:
            yield failed(CODE, "different-gpus", where, text, lowers=True)
            return
        yield not_applicable(CODE, text, caution="different-gpus")
    elif cpu:
        text = f"Measured on {cpu[0]}: what shares is a CPU core under the kernel's scheduler, not a GPU."
        yield not_applicable(CODE, text, caution="not-a-gpu")
    elif not any(worker.device.uuid for worker in info.workers):
        yield not_applicable(CODE, "Nobody recorded on which device the tenants were.")
    elif not ill:
        device = info.workers[0].device
        yield passed(CODE, device.uuid, f"All tenants were on one device, {device.label} ({device.uuid}).")


def _unhealthy(run: RunData) -> Iterator[Check]:
    for one in neighbours.unhealthy(run):
        yield failed(CODE, "doubt", f"unhealthy in {count(len(one.blocks), 'block')}", one.text)


def _xids(run: RunData, gathered: Gathered) -> Iterator[Check]:
    """Errors that the GPU told while blocks ran, by their number."""
    blocks: dict[int, list[int]] = {}
    for series in run.telemetry():
        if series.metric == XID:
            for at_ns, number in zip(series.t_ns.tolist(), series.value.tolist(), strict=True):
                within = [block.index for block in run.blocks if block.start_ns <= at_ns <= block.end_ns]
                blocks.setdefault(round(number), []).extend(within)
    for number, within in blocks.items():
        if within:
            numbers = ", ".join(map(str, sorted(set(within))))
            text = f"The GPU told Xid {number} in block{'s' if len(set(within)) > 1 else ''} {numbers}."
            yield failed(CODE, "xid", f"Xid {number}", text, off=gathered.levels.most_off(set(within)))


def apart(info: RunInfo) -> str:
    """Why no figure of the run is of sharing one device; empty where it is, or where the run was allowed that."""
    where = "" if info.plan.allow_different_gpus else _places(info)
    return f"the tenants were not on one device: {where}" if where else ""


def _parts(info: RunInfo) -> dict[str, str]:
    """By tenant its MIG device, in a run in which each was to have its own, and had; else empty."""
    found = {worker.tenant: worker.device.uuid for worker in info.workers}
    apart = len(set(found.values())) == len(found) > 1 and all(uuid.startswith("MIG-") for uuid in found.values())
    return found if apart and info.backend == "local" and info.mode.asked == MIG else {}


def _told(parts: dict[str, str]) -> str:
    return ", ".join(f"{tenant} {uuid}" for tenant, uuid in parts.items())


def _places(info: RunInfo) -> str:
    """Who was where, if not all were on one device; empty if they were, or had a part of it each, or nobody tells."""
    if _parts(info):
        return ""
    devices = {worker.tenant: worker.device for worker in info.workers if worker.device.uuid}
    if len({device.uuid for device in devices.values()}) > 1:
        return ", ".join(f"{name} on {device.label} ({device.uuid})" for name, device in devices.items())
    given = {worker.tenant: worker.gpus[0] for worker in info.workers if len(worker.gpus) == 1}
    if len(set(given.values())) > 1:
        return ", ".join(f"{name} was given {gpu}" for name, gpu in given.items())
    return ""
