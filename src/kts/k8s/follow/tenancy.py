"""What the workers of a run tell of themselves in their logs' headers, and whether it is one experiment. Pure."""

from __future__ import annotations

import msgspec

from kts.model.plan import Plan
from kts.model.run import WorkerInfo
from kts.wire.logframe import Meta


class Tenancy:
    """The headers of a run. ``plan`` has the sizes that were found so far."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.notes: list[str] = []
        self._first: tuple[str, Meta] | None = None
        self._metas: dict[str, list[Meta]] = {}
        self._kubelet: dict[str, str] = {}

    def meet(self, tenant: str, condition: str, meta: Meta) -> str:
        """Takes a header; why what follows it does not belong to this run, empty if it does."""
        work = self.plan.tenant(tenant).work
        self._metas.setdefault(tenant, []).append(meta)
        if work.size is None:
            self._freeze(tenant, meta.size)
        elif meta.size != work.size:
            return f"tenant {tenant} ran size {meta.size} in {condition}, and not {work.size} as in the rest of the run"
        here = f"{tenant} in {condition}"
        if self._first is None:
            self._first = (here, meta)
        return self._apart(here, *self._first, meta)

    def _apart(self, here: str, there: str, first: Meta, meta: Meta) -> str:
        """Who had which device, if it is not one; a note and empty where that is allowed."""
        if meta.device.uuid != first.device.uuid:
            what = f"{here} on {_place(meta)}, {there} on {_place(first)}"
        elif len(meta.gpus) == 1 and len(first.gpus) == 1 and meta.gpus != first.gpus:
            what = f"{here} was given {meta.gpus[0]}, {there} {first.gpus[0]}"
        else:
            return ""
        return self._different(what)

    def kubelet(self, pod: str, gpus: tuple[str, ...]) -> str:
        """Takes what the kubelet says a pod was given; why that is not one GPU for all, empty if it is."""
        if len(gpus) != 1 or pod in self._kubelet:
            return ""
        self._kubelet[pod] = gpus[0]
        other = next(((name, gpu) for name, gpu in self._kubelet.items() if gpu != gpus[0]), None)
        if other is None:
            return ""
        return self._different(f"the kubelet gave {pod} {gpus[0]}, and {other[0]} {other[1]}")

    def _different(self, what: str) -> str:
        if not self.plan.allow_different_gpus:
            return f"the tenants are not on one device: {what}"
        note = f"NOT ONE DEVICE, allowed by the user: {what}"
        self.notes += [] if note in self.notes else [note]
        return ""

    def worker(self, tenant: str) -> WorkerInfo | None:
        """For the run directory, by all its headers: the process is that of its first block. None before that."""
        metas = self._metas.get(tenant)
        if not metas:
            return None
        first = metas[0]
        return WorkerInfo(
            tenant=tenant,
            pid=first.pid,
            hostname=first.hostname,
            device=first.device,
            cores=first.cores,
            gpus=tuple(sorted({gpu for meta in metas for gpu in meta.gpus})),
            solo_ms=first.solo_ms,
        )

    @property
    def solo_ms(self) -> dict[str, float | None]:
        """Solo duration by tenant, where calibration measured it."""
        return {name: metas[0].solo_ms for name, metas in self._metas.items()}

    def _freeze(self, tenant: str, size: int) -> None:
        before = self.plan.tenant(tenant)
        after = msgspec.structs.replace(before, work=before.work.sized(size))
        tenants = tuple(after if one is before else one for one in self.plan.tenants)
        self.plan = msgspec.structs.replace(self.plan, tenants=tenants)


def _place(meta: Meta) -> str:
    return f"{meta.device.label} ({meta.device.uuid})"
