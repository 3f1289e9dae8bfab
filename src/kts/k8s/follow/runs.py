"""The runs that are in a cluster: started and found again in whichever design, and listed."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from kts import files
from kts.conduct.ports import Watcher
from kts.errors import DataError, SetupError
from kts.k8s.cluster.api import Api
from kts.k8s.follow import classic, session
from kts.k8s.objects import Object, manifests, podstate
from kts.k8s.objects.names import (
    ANNOTATION_BLOCKS,
    ANNOTATION_EXPERIMENT,
    APP,
    LABEL_APP,
    LABEL_BLOCK,
    LABEL_ROLE,
    LABEL_RUN,
)
from kts.k8s.objects.settings import ClusterSettings
from kts.model.plan import Plan
from kts.model.run import Outcome, RunInfo


class RunSession(Protocol):
    """A run that is there. `follow` to its end and then `finish`, or `collect` alone; `close` in any case."""

    run: str
    settings: ClusterSettings

    def follow(self, watcher: Watcher) -> Outcome:
        """Until the run is over, whichever way. KeyboardInterrupt stops it in order; Unavailable: it goes on alone."""

    def finish(self, outcome: Outcome) -> RunInfo:
        """Ends the run directory; what the cluster no longer tells is left out, and named."""

    def collect(self) -> RunInfo:
        """What there is now, without ending anything."""

    def done(self) -> None:
        """Everything was fetched."""

    def close(self) -> None:
        """Lets others write the directory."""


_T = TypeVar("_T")


def start(
    api: Api, plan: Plan, settings: ClusterSettings, experiment_text: str, directory: Path, *, run: str, overwrite: bool
) -> RunSession:
    """Begins a run; on failure nothing of it is left. Errors name what was refused and why."""
    begin = classic.start if plan.design == "classic" else session.start
    return begin(api, plan, settings, experiment_text, directory, run=run, overwrite=overwrite)


def _stored(owner: Object, name: str, kind: type[_T]) -> _T:
    """What a run's ConfigMap holds under ``name``. DataError."""
    text = str(owner["data"][name])
    return files.decode(text.encode(errors="replace"), kind, name, f"not a {name}", "use the kts that started it")


def attach(api: Api, run: str, namespace: str, directory: Path) -> RunSession:
    """The session of a run that goes on in the cluster. SetupError if there is no such run."""
    owner = api.get("ConfigMap", manifests.object_name(run), namespace)
    secret = api.get("Secret", manifests.object_name(run), namespace)
    try:
        plan = _stored(owner, "plan.json", Plan) if owner else None
        if owner is None or plan is None or (secret is None and plan.design != "classic"):
            raise SetupError(
                f"no run {run} in namespace {namespace}", "kts runs --on k8s lists the runs that are there"
            )
        settings = _stored(owner, "settings.json", ClusterSettings)
        token = base64.b64decode(secret["data"]["token"]).decode() if secret else ""
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"run {run} cannot be read ({error})", "use the kts that started it, or kts clean it"
        ) from error
    text = owner["data"].get("experiment.yaml", "")
    if plan.design == "classic":
        uid = owner["metadata"]["uid"]
        return classic.attach(api, plan, settings, text, directory, run=run, uid=uid)
    return session.attach(api, plan, settings, text, directory, run=run, token=token)


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """One run in a cluster, for a list. ``state``: what its pods say together."""

    run: str
    namespace: str
    experiment: str
    state: str
    age_s: float


def runs(api: Api, namespace: str | None) -> list[RunState]:
    """The runs of a namespace (None: of all), the youngest first."""
    owners = api.list("ConfigMap", namespace, {LABEL_APP: APP, LABEL_ROLE: "owner"})
    pods = api.list("Pod", namespace, {LABEL_APP: APP})
    found = []
    for owner in owners:
        run = podstate.labelled(owner, LABEL_RUN)
        annotations = owner["metadata"].get("annotations") or {}
        mine = [pod for pod in pods if podstate.labelled(pod, LABEL_RUN) == run]
        blocks = str(annotations.get(ANNOTATION_BLOCKS, ""))
        found.append(
            RunState(
                run=run,
                namespace=owner["metadata"]["namespace"],
                experiment=annotations.get(ANNOTATION_EXPERIMENT, ""),
                state=_state_of_jobs(mine, blocks) if blocks else _state(mine),
                age_s=podstate.age_s(owner, time.time()),
            )
        )
    return sorted(found, key=lambda state: state.age_s)


def _state(pods: list[Object]) -> str:
    conductor = next((pod for pod in pods if podstate.is_conductor(pod)), None)
    if conductor is None:
        return "no conductor"
    tenants = [podstate.phase(pod) for pod in pods if podstate.tenant(pod)]
    if podstate.phase(conductor) == "Running" and tenants and all(p in ("Succeeded", "Failed") for p in tenants):
        return "over, to be collected"
    return {"Running": "running", "Pending": "pending", "Succeeded": "over", "Failed": "failed"}.get(
        podstate.phase(conductor), "unknown"
    )


def _state_of_jobs(pods: list[Object], blocks: str) -> str:
    """Of a run in the classic design: its latest block, of how many. Its next one begins when kts is there."""
    by_block: dict[str, list[str]] = {}
    for pod in pods:
        by_block.setdefault(podstate.labelled(pod, LABEL_BLOCK), []).append(podstate.phase(pod))
    if not by_block:
        return "nothing started"
    latest = max(by_block, key=lambda text: int(text) if text.isdecimal() else -1)
    phases = set(by_block[latest])
    which = f"block {int(latest) + 1 if latest.isdecimal() else '?'} of {blocks}"
    if "Failed" in phases:
        return f"{which} failed"
    return f"{which} over" if phases == {"Succeeded"} else f"{which} running"
